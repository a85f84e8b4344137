"""The kernels that layers call, by name; each call goes to the best implementation for its tensors.

Layers import this module alone. Signatures are those of `reference`, which documents them. On the CPU the native
kernels serve what they can (contiguous rows of float32, bfloat16 or float16); the twin serves the rest, and machines
without them.
"""

import torch
from torch.nn import functional

from lepton_engine.kernels import reference
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.cpu import native
from lepton_engine.kernels.quantized import QuantizedWeight

_native = native()


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `reference.rms_norm`."""
    if _native is not None and _native.takes(x) and weight.dtype == x.dtype:
        return _native.rms_norm(x, weight, eps)
    return reference.rms_norm(x, weight, eps)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `reference.add_rms_norm`; a native kernel may write the new residual over the old one."""
    if _native is not None and _native.takes_rows(x, residual) and weight.dtype == x.dtype:
        return _native.add_rms_norm(x, residual, weight, eps)
    return reference.add_rms_norm(x, residual, weight, eps)


def apply_rotary(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos_sin_cache: torch.Tensor) -> None:
    """See `reference.apply_rotary`."""
    if _native is not None and q.dtype == k.dtype and _native.takes_heads(q) and _native.takes_heads(k):
        _native.rotary_store(q, k, None, positions, cos_sin_cache, None, None, None)
    else:
        reference.apply_rotary(q, k, positions, cos_sin_cache)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `reference.silu_mul`."""
    if _native is not None and _native.takes(gate_up) and gate_up.dim() == 2:
        return _native.silu_mul(gate_up)
    return reference.silu_mul(gate_up)


def store_kv(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    """See `reference.store_kv`."""
    if _native is not None and _native.takes_store(k, v, k_cache, v_cache):
        _native.rotary_store(None, k, v, None, None, k_cache, v_cache, slot_mapping)
    else:
        reference.store_kv(k, v, k_cache, v_cache, slot_mapping)


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: BatchContext,
    group: KVGroupBatch,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """See `reference.paged_attention`."""
    if _native is not None and _native.takes_attention(q, k_cache, v_cache):
        return _native.paged_attention(q, k_cache, v_cache, batch, group, scale, window)
    return reference.paged_attention(q, k_cache, v_cache, batch, group, scale, window)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x [T, in] times weight [out, in] transposed, plus bias [out] -> [T, out]."""
    if _native is not None and _native.takes_linear(x, weight):
        return _native.linear(x, weight, bias)
    return functional.linear(x, weight, bias)


def quantized_linear(x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """See `reference.quantized_linear`."""
    return reference.quantized_linear(x, weight, bias)
