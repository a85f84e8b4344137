"""The tests that a GPU changes: kernels and whole families on the chip."""

import argparse
import importlib.util
import os
import re
import subprocess
import sys

import torch

from benchmarks.gpu.rows import Row

PART = "checks"
TESTS = ("tests/engine/kernels/triton",)


def main(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """See `benchmarks.gpu.__main__`.

    Raises:
        RuntimeError: pytest is missing, or tests fail.
    """
    if importlib.util.find_spec("pytest") is None:
        raise RuntimeError(f"pytest is missing under {sys.executable}: the checks need it, the measurements do not")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    # Options of plugins that are not there are passed over; conftests above this folder need more than an image has.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.gpu.plugin", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", "--confcutdir", TESTS[0].rsplit("/", 1)[0], *TESTS]
    if arguments.quick:
        command += ["-k", "not compile"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (arguments.out / "checks.log").write_text(done.stdout)
    print(done.stdout[-6000:])
    passed = re.search(r"(\d+) passed", done.stdout)
    rows = [Row(PART, "tests passed on the chip", "", float(passed[1]) if passed else 0.0, "tests")]
    failed = re.search(r"(\d+) failed", done.stdout)
    failures = float(failed[1]) if failed else float(done.returncode != 0)
    return [*rows, Row(PART, "tests failed", "", failures, "tests", 0.0, at_least=False)]
