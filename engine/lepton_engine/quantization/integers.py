"""Unpacked integers with scales and zero points, as checkpoints hold them, in the form that kernels take."""

import torch

from lepton_engine.kernels.quantized import QuantizedWeight, pack_int4
from lepton_engine.quantization.packing import group_order
from lepton_engine.quantization.stored import StoredModule


def from_integers(
    module: StoredModule,
    values: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None,
    *,
    bits: int,
    groups: torch.Tensor | None = None,
    activations: str | None = None,
    scales_name: str,
) -> QuantizedWeight | torch.Tensor:
    """The weight of a module; a plain one for integers of 8 bits that are in groups or have zero points.

    Args:
        values: unsigned, uint8 [out, in]. scales: float32 [out, groups].
        zeros: unsigned zero points [out, groups]; None is the middle of the range.
        groups: group of each column [in]; None for neighbours. scales_name: the suffix of the tensor, for messages.

    Raises:
        ModelLoadError: scales of zero over values that are not, or groups of different sizes.
    """
    group_size = module.in_features // scales.shape[1]
    order = None
    if groups is not None:
        try:
            order = group_order(groups, group_size)
        except ValueError as error:
            raise module.error(f"the group index of {module.name} is wrong: {error}") from error
        if order is not None:
            values = values[:, order]
    middle = 1 << (bits - 1)
    if zeros is not None and (zeros == middle).all():
        zeros = None
    scales = scales.contiguous()
    if bits == 4:
        small = None if zeros is None else zeros.to(torch.uint8).contiguous()
        packed = pack_int4(values.contiguous())
        weight = QuantizedWeight("int4", packed, scales, small, order)
        return module.checked(weight, scales_name)
    if zeros is None and scales.shape[1] == 1:
        data = (values.contiguous().view(torch.int8) ^ -128).contiguous()  # 0..255 to -128..127
        return module.checked(QuantizedWeight("int8", data, scales, activations=activations), scales_name)
    grouped = values.reshape(values.shape[0], scales.shape[1], -1).float()
    offsets = torch.full_like(scales, middle) if zeros is None else zeros.float()
    plain = ((grouped - offsets.unsqueeze(-1)) * scales.unsqueeze(-1)).flatten(1)
    if order is not None:
        plain[:, order] = plain.clone()
    return plain
