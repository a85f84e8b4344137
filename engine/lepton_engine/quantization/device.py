"""What a device can compute with."""

from dataclasses import replace

import torch

from lepton_engine.errors import InvalidRequestError
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.scheme import Scheme

FP8_CAPABILITY = (8, 9)
"""The least compute capability of CUDA devices that multiply fp8 by fp8."""


def multiplies_fp8(device: torch.device) -> bool:
    """Whether the device has products of fp8 with fp8; all have products of fp8 weights with wider inputs."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY


def check_device(scheme: Scheme, device: torch.device) -> None:
    """Refuse a scheme that was asked for and that the device cannot run.

    Raises:
        InvalidRequestError: naming the scheme, the device and what would do.
    """
    if scheme.activations == "fp8" and not multiplies_fp8(device):
        raise InvalidRequestError(
            "quantization",
            f"{scheme.name!r} needs a CUDA device of compute capability 8.9 or more, and the device is {device}; "
            "'fp8' runs on all",
        )


def suited(weight: QuantizedWeight, device: torch.device) -> QuantizedWeight:
    """A checkpoint's weight on a device: inputs that it cannot multiply in fp8 stay as they are."""
    if weight.activations == "fp8" and not multiplies_fp8(device):
        weight = replace(weight, activations=None)
    return weight.to(device)
