"""The interpreter that was given, and the device that it sees."""

import importlib
import importlib.util
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch


class NoGPUError(RuntimeError):
    """There is nothing to check or measure on."""


def install_stand_ins() -> None:
    """Let the engine be imported where msgspec is missing; in process it needs no encoding."""
    if "msgspec" not in sys.modules and importlib.util.find_spec("msgspec") is None:
        sys.modules["msgspec"] = importlib.import_module("benchmarks.gpu.stand_in")


def require_gpu() -> torch.device:
    """The CUDA device.

    Raises:
        NoGPUError: torch sees none, or Triton is missing.
    """
    if not torch.cuda.is_available():
        built = torch.version.cuda or "no CUDA"
        raise NoGPUError(
            f"no GPU: torch {torch.__version__} (built for {built}) under {sys.executable} finds no CUDA device. "
            "Run `make gpu PY=python3` on a machine that has one, with an interpreter whose torch sees it."
        )
    if importlib.util.find_spec("triton") is None:
        raise NoGPUError(f"no Triton under {sys.executable}: the kernels need it (torch's CUDA packages bring it)")
    install_stand_ins()
    return torch.device("cuda", torch.cuda.current_device())


@dataclass(frozen=True)
class Chip:
    """What figures were measured on."""

    name: str
    capability: str
    processors: int
    memory_gib: float
    torch: str
    cuda: str
    triton: str
    python: str


def chip() -> dict[str, Any]:
    """The device and the versions, as plain values."""
    import triton

    properties = torch.cuda.get_device_properties(0)
    return asdict(
        Chip(
            properties.name,
            f"{properties.major}.{properties.minor}",
            properties.multi_processor_count,
            properties.total_memory / 2**30,
            torch.__version__,
            torch.version.cuda or "",
            triton.__version__,
            sys.version.split()[0],
        )
    )
