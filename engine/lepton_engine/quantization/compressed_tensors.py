"""Reads checkpoints in the format of compressed-tensors (https://github.com/vllm-project/compressed-tensors).

For each module: `weight_packed` int32 [out, in * bits / 32] (unsigned, lowest bits first) and `weight_shape`, or
`weight` int8 or float8_e4m3fn [out, in]; `weight_scale`; where not symmetric `weight_zero_point`, signed, packed along
the outputs beside packed weights; with act-order `weight_g_idx`. value = (stored - zero point) * scale.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lepton_engine.errors import ModelLoadError
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.compressed_config import CompressedConfig, CompressedGroup, parse_compressed
from lepton_engine.quantization.integers import from_integers
from lepton_engine.quantization.packing import unpack_words
from lepton_engine.quantization.stored import StoredModule

MARKS = ("weight_packed", "weight_scale")
UNUSED = ("input_scale", "input_zero_point")
KV_SCALES = ("k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point")


@dataclass(frozen=True)
class CompressedTensorsReader:
    """A `WeightReader` over compressed-tensors."""

    config: CompressedConfig
    stored: Collection[str]

    @staticmethod
    def open(config: Mapping[str, Any], stored: Collection[str]) -> "CompressedTensorsReader":
        """From config.json's `quantization_config`; raises as `parse_compressed`."""
        return CompressedTensorsReader(parse_compressed(config), stored)

    def reads(self, module: str) -> bool:
        """See `WeightReader.reads`.

        Raises:
            ModelLoadError: quantised tensors are stored for a module that no group means.
        """
        group = self.config.group_of(module)
        if group is None and any(f"{module}.{mark}" in self.stored for mark in MARKS):
            raise ModelLoadError(
                f"config.json: quantization_config.config_groups: none means {module}, which is stored quantised"
            )
        return group is not None

    def ignores(self, name: str) -> bool:
        """See `WeightReader.ignores`: the scales of a quantised KV cache, which here are found while running."""
        return name.rpartition(".")[2] in KV_SCALES

    def read(self, module: StoredModule) -> QuantizedWeight | torch.Tensor:
        """See `WeightReader.read`."""
        group = self.config.group_of(module.name)
        if group is None:
            raise module.error(f"{module.name} belongs to no group of config_groups")
        for suffix in UNUSED:
            module.skip(suffix)
        return self._float(module, group) if group.kind == "float" else self._integers(module, group)

    def _float(self, module: StoredModule, group: CompressedGroup) -> QuantizedWeight | torch.Tensor:
        data = module.take("weight", (module.out_features, module.in_features), "float8_e4m3fn")
        if ((data.view(torch.uint8) & 0x7F) == 0x7F).any():
            raise module.error(f"tensor {module.name}.weight has values that are NaN")
        scales = _scales(module, group)
        module.skip("weight_zero_point")
        if scales.shape[1] > 1:
            width = -(-module.in_features // scales.shape[1]) if group.block is None else group.block[1]
            return data.float() * scales.repeat_interleave(width, 1)[:, : module.in_features]
        weight = QuantizedWeight("fp8", data, scales, activations=group.activations)
        return module.checked(weight, "weight_scale")

    def _integers(self, module: StoredModule, group: CompressedGroup) -> QuantizedWeight | torch.Tensor:
        middle = 1 << (group.bits - 1)
        scales = _scales(module, group)
        if group.strategy == "block":
            raise module.error(f"{module.name}: integers with the strategy 'block' are not read")
        return from_integers(
            module,
            _values(module, group, middle),
            scales,
            None if group.symmetric else _zeros(module, group, scales.shape[1], middle),
            bits=group.bits,
            groups=_group_index(module, group),
            activations=group.activations,
            scales_name="weight_scale",
        )


def _scales(module: StoredModule, group: CompressedGroup) -> torch.Tensor:
    """Float32 [out, groups]; a scale of a tensor or of a block of rows is repeated."""
    rows, columns = module.out_features, module.in_features
    if group.strategy == "tensor":
        shape = (1, 1) if module.shape_of("weight_scale") == (1, 1) else (1,)
        return module.scales("weight_scale", shape).view(1, 1).expand(rows, 1).contiguous()
    if group.block is not None:
        height, width = group.block
        scales = module.scales("weight_scale", (-(-rows // height), -(-columns // width)))
        return scales.repeat_interleave(height, 0)[:rows]
    size = columns
    if group.group_size is not None:
        size = module.group_size(group.group_size, "quantization_config: weights.group_size")
    return module.scales("weight_scale", (rows, columns // size))


def _values(module: StoredModule, group: CompressedGroup, middle: int) -> torch.Tensor:
    """Unsigned uint8 [out, in]."""
    rows, columns = module.out_features, module.in_features
    if not group.packed:
        stored = module.take("weight", (rows, columns), "int8")
        if group.bits == 4 and (stored.amin() < -8 or stored.amax() > 7):
            raise module.error(f"tensor {module.name}.weight has values outside -8..7, which num_bits 4 cannot be")
        return (stored.to(torch.int16) + middle).to(torch.uint8)
    if module.has("weight_shape"):
        said = module.take("weight_shape", (2,), "integer").tolist()
        if said != [rows, columns]:
            raise module.error(f"tensor {module.name}.weight_shape says {said}, config.json asks for {[rows, columns]}")
    packed = module.take("weight_packed", (rows, -(-columns * group.bits // 32)), "int32")
    return unpack_words(packed, group.bits, 1)[:, :columns]


def _zeros(module: StoredModule, group: CompressedGroup, groups: int, middle: int) -> torch.Tensor:
    """Unsigned uint8 [out, groups]."""
    rows = module.out_features
    if group.packed:
        packed = module.take("weight_zero_point", (-(-rows * group.bits // 32), groups), "int32")
        return unpack_words(packed, group.bits, 0)[:rows]
    shape = (rows, groups) if group.strategy != "tensor" else (1,)
    stored = module.take("weight_zero_point", shape, "int8").view(-1, groups).expand(rows, groups)
    return (stored.to(torch.int16) + middle).to(torch.uint8)


def _group_index(module: StoredModule, group: CompressedGroup) -> torch.Tensor | None:
    if not group.act_order and not module.has("weight_g_idx"):
        return None
    return module.take("weight_g_idx", (module.in_features,), "integer")
