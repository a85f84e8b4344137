"""Reads AWQ checkpoints (Lin et al. 2023) in the "gemm" layout of AutoAWQ.

For each module: `qweight` int32 [in, out / 8] and `qzeros` int32 [groups, out / 8], both with the outputs of a word in
`AWQ_ORDER`, and `scales` [groups, out]; value = (stored - zero point) * scale.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lepton_engine.errors import UnsupportedModelError
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.integers import from_integers
from lepton_engine.quantization.names import holds
from lepton_engine.quantization.packing import from_awq_order, unpack_words
from lepton_engine.quantization.stored import StoredModule
from lepton_engine.weights.fields import Fields


@dataclass(frozen=True)
class AWQReader:
    """A `WeightReader` over AWQ's tensors. A module is quantised if `qweight` is stored for it, plain if `weight` is.

    Attributes:
        group_size: -1 for all inputs. zero_point: whether zero points are stored; otherwise they are 8.
    """

    group_size: int
    zero_point: bool
    stored: Collection[str]
    skipped: tuple[str, ...]

    @staticmethod
    def open(config: Mapping[str, Any], stored: Collection[str], prefix: str = "quantization_config.") -> "AWQReader":
        """From config.json's `quantization_config`, or from a quant_config.json of AutoAWQ.

        Raises:
            UnsupportedModelError: bits or layout that are not read here. ModelLoadError: a field of the wrong type.
        """
        fields = Fields(config, prefix)
        bits = fields.integer("bits", config.get("w_bit", 4))
        if bits != 4:
            raise UnsupportedModelError(f"config.json: {prefix}bits is {bits}, 4 is needed for AWQ")
        layout = fields.text("version", config.get("format") or "gemm").lower()
        if layout != "gemm":
            raise UnsupportedModelError(f"config.json: {prefix}version is {layout!r}, 'gemm' is needed")
        skipped = config.get("modules_to_not_convert") or []
        return AWQReader(
            fields.integer("group_size", config.get("q_group_size", 128), low=-1),
            fields.boolean("zero_point", True),
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
        rows, columns = module.out_features, module.in_features
        size = module.group_size(self.group_size, "quantization_config.group_size")
        if rows % 8:
            raise module.error(f"{module.name} has {rows} outputs, AWQ packs them by 8")
        packed = module.take("qweight", (columns, rows // 8), "int32")
        values = from_awq_order(unpack_words(packed, 4, 1)).t()
        scales = module.scales("scales", (columns // size, rows)).t()
        zeros = None
        if self.zero_point:
            packed = module.take("qzeros", (columns // size, rows // 8), "int32")
            zeros = from_awq_order(unpack_words(packed, 4, 1)).t()
        else:
            module.skip("qzeros")
        return from_integers(module, values, scales, zeros, bits=4, scales_name="scales")
