"""The kernels that layers call, by name; each call goes to the best implementation for its tensors.

Layers import this module alone. Signatures are those of `reference`, which documents them.
"""

import torch
from torch.nn import functional

from lepton_engine.kernels import reference
from lepton_engine.layers.batch import BatchContext, KVGroupBatch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `reference.rms_norm`."""
    return reference.rms_norm(x, weight, eps)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `reference.add_rms_norm`; a native kernel may write the new residual over the old one."""
    return reference.add_rms_norm(x, residual, weight, eps)


def apply_rotary(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos_sin_cache: torch.Tensor) -> None:
    """See `reference.apply_rotary`."""
    reference.apply_rotary(q, k, positions, cos_sin_cache)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `reference.silu_mul`."""
    return reference.silu_mul(gate_up)


def store_kv(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    """See `reference.store_kv`."""
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
    return reference.paged_attention(q, k_cache, v_cache, batch, group, scale, window)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x [T, in] times weight [out, in] transposed, plus bias [out] -> [T, out]."""
    return functional.linear(x, weight, bias)
