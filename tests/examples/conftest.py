"""The control plane and the operator of tests/cluster, for the examples."""

from tests.cluster.conftest import api, cluster, control_plane, installed, namespace, operator, programs, running

__all__ = ["api", "cluster", "control_plane", "installed", "namespace", "operator", "programs", "running"]
