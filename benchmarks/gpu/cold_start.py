"""From the start of a process to the first token, over a checkpoint on disk that the file cache holds."""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.models import write_checkpoint
from benchmarks.gpu.rows import Row

PART = "cold_start"
TARGET = 15.0
_SIGN = "first token"


def first_token(folder: Path, device: str) -> None:
    """What the measured process does: load, start, one token."""
    from benchmarks.gpu.environment import install_stand_ins

    install_stand_ins()
    from benchmarks.gpu.core import run
    from lepton_engine.build import build_core
    from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings
    from lepton_engine.messages import EngineSettings

    core = build_core(
        EngineSettings(
            model=str(folder),
            model_settings=ModelSettings(device=device),
            cache=CacheSettings(),
            scheduler=SchedulerSettings(),
        )
    )
    run(core, [list(range(2, 34))], [1])
    print(_SIGN, flush=True)


def start_seconds(folder: Path, device: str) -> float:
    """Seconds until a fresh process has its first token."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.gpu.cold_start", str(folder), device]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == _SIGN:
                taken = time.perf_counter() - began
                process.stdout.read()
                break
        else:
            raise RuntimeError(f"the process ended with {process.wait()} before its first token")
    return taken


def main(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """See `benchmarks.gpu.__main__`; the first start, which compiles kernels and warms the files, is told apart."""
    shape = "tiny" if arguments.quick else "8B"
    folder = write_checkpoint(shape, arguments.scratch / f"{shape}-random")
    torch.cuda.empty_cache()
    first = start_seconds(folder, device.type)
    again = [start_seconds(folder, device.type) for _ in range(1 if arguments.quick else 3)]
    return [
        Row(PART, "first start: kernels compiled, files read", f"{shape} bf16", first, "s"),
        Row(
            PART, "process start to first token", f"{shape} bf16", statistics.median(again), "s", TARGET, at_least=False
        ),
    ]


if __name__ == "__main__":
    first_token(Path(sys.argv[1]), sys.argv[2])
