"""Reads GPTQ checkpoints (Frantar et al. 2022) as AutoGPTQ and GPTQModel write them.

For each module: `qweight` int32 [in * bits / 32, out], `qzeros` int32 [groups, out * bits / 32], `scales` [groups, out]
and `g_idx` int32 [in], the group of each input; value = (stored - zero point) * scale. Version 1 of the format stores
zero points minus one, subtracted from all of a word at once, version 2 as they are. With act-order (`desc_act`) the
inputs of a group are not neighbours.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lepton_engine.errors import UnsupportedModelError
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.integers import from_integers
from lepton_engine.quantization.names import holds
from lepton_engine.quantization.packing import unpack_words
from lepton_engine.quantization.stored import StoredModule
from lepton_engine.weights.fields import Fields

FORMATS = {"gptq": 1, "gptq_v2": 2}
ONES = {4: 0x11111111, 8: 0x01010101}
"""By bits: a word of ones."""


@dataclass(frozen=True)
class GPTQReader:
    """A `WeightReader` over GPTQ's tensors. A module is quantised if `qweight` is stored for it, plain if `weight` is.

    Attributes:
        bits: 4 or 8. group_size: -1 for all inputs. act_order: whether `g_idx` must be there.
        version: of the format, 1 or 2.
    """

    bits: int
    group_size: int
    act_order: bool
    version: int
    stored: Collection[str]
    skipped: tuple[str, ...]

    @staticmethod
    def open(config: Mapping[str, Any], stored: Collection[str], prefix: str = "quantization_config.") -> "GPTQReader":
        """From config.json's `quantization_config`, or from a quantize_config.json.

        Raises:
            UnsupportedModelError: bits or a format that are not read here. ModelLoadError: a field of the wrong type.
        """
        fields = Fields(config, prefix)
        bits = fields.integer("bits")
        if bits not in (4, 8):
            raise UnsupportedModelError(f"config.json: {prefix}bits is {bits}, 4 or 8 is needed for GPTQ")
        name = fields.text("checkpoint_format", config.get("format") or "gptq").lower()
        if name not in FORMATS or config.get("is_marlin_format"):
            name = name if name not in FORMATS else "marlin"
            raise UnsupportedModelError(
                f"config.json: {prefix}checkpoint_format is {name!r}, one of {', '.join(FORMATS)} is needed"
            )
        for pattern, change in (fields.mapping("dynamic") or {}).items():
            if not pattern.startswith("-:") and {"bits", "group_size"} & set(change or {}):
                raise UnsupportedModelError(
                    f"config.json: {prefix}dynamic gives modules other bits or groups ({pattern}: {change!r}), "
                    "which is not supported"
                )
        skipped = config.get("modules_to_not_convert") or []
        return GPTQReader(
            bits,
            fields.integer("group_size", -1, low=-1),
            fields.boolean("desc_act", False),
            FORMATS[name],
            stored,
            tuple(map(str, skipped)),
        )

    def reads(self, module: str) -> bool:
        """See `WeightReader.reads`."""
        return holds(module, ("qweight", "qzeros", "scales"), self.stored, self.skipped)

    def ignores(self, name: str) -> bool:
        """See `WeightReader.ignores`: nothing."""
        return False

    def read(self, module: StoredModule) -> QuantizedWeight | torch.Tensor:
        """See `WeightReader.read`."""
        rows, columns, per_word = module.out_features, module.in_features, 32 // self.bits
        size = module.group_size(self.group_size, "quantization_config.group_size")
        if rows % per_word or columns % per_word:
            raise module.error(f"{module.name} is {rows} by {columns}, GPTQ packs both by {per_word}")
        values = unpack_words(module.take("qweight", (columns // per_word, rows), "int32"), self.bits, 0).t()
        scales = module.scales("scales", (columns // size, rows)).t()
        packed = module.take("qzeros", (columns // size, rows // per_word), "int32")
        if self.version == 1:
            packed = packed + ONES[self.bits]  # The whole word: a zero point of 0 has borrowed from its neighbour.
        zeros = unpack_words(packed, self.bits, 1).t()
        groups = None
        if self.act_order or module.has("g_idx"):
            groups = module.take("g_idx", (columns,), "integer")
        if not module.has_bias:
            self._check_unused_bias(module)
        return from_integers(module, values, scales, zeros, bits=self.bits, groups=groups, scales_name="scales")

    @staticmethod
    def _check_unused_bias(module: StoredModule) -> None:
        # AutoGPTQ stores biases of zeros for layers that have none.
        if module.has("bias") and module.take("bias", (module.out_features,), "floating point").any():
            raise module.error(f"tensor {module.name}.bias is not zero, config.json knows no bias there")
