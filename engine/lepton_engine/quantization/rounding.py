"""Quantises plain weights by rounding to the nearest value, with the scale that fits each channel or group."""

import torch

from lepton_engine.kernels.quantized import INT4_ZERO, QuantizedWeight, pack_int4
from lepton_engine.quantization.scheme import Scheme

FP8_MAX = torch.finfo(torch.float8_e4m3fn).max
SHRINKS = tuple(1 - 0.03 * step for step in range(1, 11))
"""Shares of a group's range that a search tries: clipping the extremes makes the steps of all others smaller."""


class UnquantizableError(ValueError):
    """A weight that has no quantised form; the message says why."""


def quantize_weight(
    weight: torch.Tensor, scheme: Scheme, *, search: bool = False, scale_dtype: torch.dtype = torch.float32
) -> QuantizedWeight:
    """A weight [out, in] in the form that kernels take.

    Args:
        search: whether int4 looks for the range of each group that makes the squared error least (about ten times
            the work); otherwise, and for the others, the range is that of the values.
        scale_dtype: one that all scales can be stored in without another rounding.

    Raises:
        UnquantizableError: values are infinite or NaN, or the group size does not divide the inputs.
    """
    if not torch.isfinite(weight).all():
        count = int((~torch.isfinite(weight)).sum())
        raise UnquantizableError(f"{count} of its {weight.numel()} values are infinite or NaN")
    wide = weight.float()
    if scheme.weights == "int4":
        return _int4(wide, scheme.group_size or wide.shape[1], scheme.symmetric, search, scale_dtype)
    limit = 127.0 if scheme.weights == "int8" else FP8_MAX
    scales = _storable(wide.abs().amax(1, keepdim=True) / limit, scale_dtype)
    scaled = (wide / scales).clamp_(-limit, limit)
    data = scaled.round_().to(torch.int8) if scheme.weights == "int8" else scaled.to(torch.float8_e4m3fn)
    return QuantizedWeight(scheme.weights, data, scales, activations=scheme.activations)


def _storable(scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Scales that a dtype has, none less than was wanted; 1 for those that are zero or next to it."""
    if dtype != torch.float32:
        near = scales.to(dtype)
        above = torch.nextafter(near, torch.full_like(near, float("inf")))
        scales = torch.where(near.float() < scales, above, near).float()
    return torch.where(scales > torch.finfo(torch.float32).tiny, scales, 1.0)


def _int4(weight: torch.Tensor, group_size: int, symmetric: bool, search: bool, dtype: torch.dtype) -> QuantizedWeight:
    rows, columns = weight.shape
    if columns % group_size or columns % 2:
        raise UnquantizableError(f"it has {columns} inputs, which groups of {group_size} do not divide")
    grouped = weight.view(rows, -1, group_size)
    low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    stored, scales, zeros = _round_int4(grouped, low, high, symmetric, dtype)
    if search:
        best = _error(grouped, stored, scales, zeros)
        for shrink in SHRINKS:
            tried = _round_int4(grouped, low * shrink, high * shrink, symmetric, dtype)
            error = _error(grouped, *tried)
            better = error < best
            best = torch.where(better, error, best)
            stored, scales, zeros = (
                torch.where(better, new, old) for new, old in zip(tried, (stored, scales, zeros), strict=True)
            )
    return QuantizedWeight(
        "int4",
        pack_int4(stored.to(torch.uint8).flatten(1)),
        scales.squeeze(-1).contiguous(),
        None if symmetric else zeros.squeeze(-1).to(torch.uint8).contiguous(),
    )


def _round_int4(
    grouped: torch.Tensor, low: torch.Tensor, high: torch.Tensor, symmetric: bool, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Stored values 0..15 [rows, groups, group_size], and scales and zero points [rows, groups, 1], all as float32."""
    if symmetric:
        scales = _storable(torch.maximum(-low, high) / 7.5, dtype)
        zeros = torch.full_like(scales, INT4_ZERO)
    else:
        # Zero stays a value of its own, as padding and pruned weights need it.
        low, high = low.clamp_max(0), high.clamp_min(0)
        scales = _storable((high - low) / 15, dtype)
        zeros = (-low / scales).round().clamp_(0, 15)
    stored = (grouped / scales).round_().add_(zeros).clamp_(0, 15)
    return stored, scales, zeros


def _error(grouped: torch.Tensor, stored: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
    """Squared error of each group, [rows, groups, 1]."""
    return ((stored - zeros) * scales - grouped).square().sum(-1, keepdim=True)
