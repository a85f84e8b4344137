"""A pytest plugin: stand-ins before any test is collected."""

from benchmarks.gpu.environment import install_stand_ins

install_stand_ins()
