"""Checkpoints that the compressed-tensors package has written, read here, against what the package makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.compressed_tensors import CompressedTensorsReader
from lepton_engine.weights.checkpoint import open_checkpoint

DYNAMIC = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}


def group(
    inputs: dict[str, Any] | None = None, targets: tuple[str, ...] = ("Linear",), **weights: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"targets": list(targets), "weights": {"symmetric": True, **weights}}
    return made if inputs is None else {**made, "input_activations": inputs}


def int4(size: int = 32, **options: Any) -> dict[str, Any]:
    return group(num_bits=4, type="int", strategy="group", group_size=size, **options)


CASES: dict[str, tuple[dict[str, Any], str | None, tuple[str, str | None] | None]] = {
    "int8": (group(num_bits=8, type="int", strategy="channel"), "int-quantized", ("int8", None)),
    "int8 packed": (group(num_bits=8, type="int", strategy="channel"), "pack-quantized", ("int8", None)),
    "int8 of a tensor": (group(num_bits=8, type="int", strategy="tensor"), "int-quantized", ("int8", None)),
    "int8 groups": (group(num_bits=8, type="int", strategy="group", group_size=32), "pack-quantized", None),
    "int8 asymmetric": (group(num_bits=8, type="int", strategy="channel", symmetric=False), "int-quantized", None),
    "w8a8": (group(DYNAMIC, num_bits=8, type="int", strategy="channel"), None, ("int8", "int8")),
    "int4": (int4(), None, ("int4", None)),
    "int4 of 64, asymmetric": (int4(64, symmetric=False), None, ("int4", None)),
    "int4 of 128": (int4(128), None, ("int4", None)),
    "int4 of a channel": (group(num_bits=4, type="int", strategy="channel"), "pack-quantized", ("int4", None)),
    "int4 not packed": (int4(symmetric=False), "int-quantized", ("int4", None)),
    "fp8": (group(num_bits=8, type="float", strategy="channel"), None, ("fp8", None)),
    "fp8 of a tensor": (group(num_bits=8, type="float", strategy="tensor"), "float-quantized", ("fp8", None)),
    "fp8 of blocks": (
        group(num_bits=8, type="float", strategy="block", block_structure=[64, 64]),
        "float-quantized",
        None,
    ),
    "fp8 with inputs": (
        group({**DYNAMIC, "type": "float"}, num_bits=8, type="float", strategy="channel"),
        None,
        ("fp8", "fp8"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_are_the_package_s(
    case: str,
    compressed: Callable[..., tuple[Path, Any]],
    module_of: Callable[..., Any],
    read_config: Callable[[Path], dict[str, Any]],
) -> None:
    settings, form, expected = CASES[case]
    folder, module = compressed({"group_0": settings}, form=form)
    checkpoint = open_checkpoint(folder)
    reader = CompressedTensorsReader.open(read_config(folder), checkpoint.names())
    count = 0
    for name, layer in module.named_modules():
        if not isinstance(layer, torch.nn.Linear):
            continue
        assert reader.reads(name) == (name != "lm_head")
        if name == "lm_head":
            continue
        read = reader.read(module_of(checkpoint, name, tuple(layer.weight.shape)))
        if expected is None:
            assert isinstance(read, torch.Tensor)
            values = read
        else:
            assert isinstance(read, QuantizedWeight)
            assert (read.scheme, read.activations) == expected
            assert (read.scales > 0).all()
            values = read.dequantize(torch.float32)
        torch.testing.assert_close(values, layer.weight.detach(), rtol=1e-6, atol=1e-6)
        count += 1
    assert count == 14
