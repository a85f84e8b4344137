"""Every kernel compiles for sm_90, in the shapes of models, within the chip's memory and without spilling much."""

import json
import os
import subprocess
import sys

import pytest

SHARED_LIMIT = 227 << 10  # bytes that a block may use on Hopper

SPILL_LIMIT = 64  # bytes of registers a thread that may go to memory


@pytest.mark.parametrize("table", ["h100", "default"])
def test_all_kernels_compile_for_hopper(table: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.kernels.triton.aot"],
        env={**environment, "TABLE": table},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    compiled = json.loads(done.stdout)
    assert len(compiled) > 20
    for kernel in compiled:
        assert kernel["cubin"] > 0
        assert kernel["shared"] <= SHARED_LIMIT, kernel["launch"]
        assert kernel.get("stack", 0) <= SPILL_LIMIT, kernel["launch"]
