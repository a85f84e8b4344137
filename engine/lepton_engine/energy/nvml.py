"""A GPU's energy counter, by NVIDIA's management library (package nvidia-ml-py, the extra `energy`)."""

import importlib
from typing import Any


class GPUMeter:
    """One GPU, with whatever else runs on it. Its counter is renewed some ten times a second.

    Args:
        nvml: the module `pynvml`, initialised. handle: the GPU.

    Raises:
        OSError: the GPU has no such counter (before Volta, or one part of several).
    """

    source = "nvml"

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._first = self._millijoules()

    def joules(self) -> float:
        """See `EnergyMeter.joules`."""
        return (self._millijoules() - self._first) / 1000

    def _millijoules(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error


def open_gpu(uuid: str, nvml: Any = None) -> GPUMeter:
    """The counter of a GPU.

    Args:
        nvml: stands in for the module `pynvml`.

    Raises:
        OSError: the library is not there, does not know the GPU, or the GPU has no counter.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise OSError("nvidia-ml-py is not installed") from error
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    except nvml.NVMLError as error:
        raise OSError(f"NVML: {error}") from error
    return GPUMeter(nvml, handle)
