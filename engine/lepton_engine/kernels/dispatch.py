"""The kernels that layers call, by name; each call goes to the best implementation for its tensors.

Layers import this module alone. Signatures are those of `reference`, which documents them. On the CPU the native
kernels serve what they can (contiguous rows of float32, bfloat16 or float16), on CUDA those in Triton; the twin serves
the rest, and machines without them.
"""

import torch
from torch.nn import functional

from lepton_engine.kernels import reference
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.cpu import native
from lepton_engine.kernels.cpu.panels import PanelWeight
from lepton_engine.kernels.cuda import cuda
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.kernels.sparse import SparseWeight

_native = native()


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `reference.rms_norm`."""
    if x.is_cuda and (kernels := cuda()) is not None and kernels.takes(x, weight):
        return kernels.rms_norm(x, weight, eps)
    if _native is not None and _native.takes(x) and weight.dtype == x.dtype:
        return _native.rms_norm(x, weight, eps)
    return reference.rms_norm(x, weight, eps)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `reference.add_rms_norm`; a native kernel may write the new residual over the old one."""
    if x.is_cuda and (kernels := cuda()) is not None and kernels.takes(x, residual, weight):
        return kernels.add_rms_norm(x, residual, weight, eps)
    if _native is not None and _native.takes_rows(x, residual) and weight.dtype == x.dtype:
        return _native.add_rms_norm(x, residual, weight, eps)
    return reference.add_rms_norm(x, residual, weight, eps)


def apply_rotary(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos_sin_cache: torch.Tensor) -> None:
    """See `reference.apply_rotary`."""
    if q.is_cuda and (kernels := cuda()) is not None and kernels.takes(q, k):
        kernels.apply_rotary(q, k, positions, cos_sin_cache)
        return
    if _native is not None and q.dtype == k.dtype and _native.takes_heads(q) and _native.takes_heads(k):
        _native.apply_rotary(q, k, positions, cos_sin_cache)
    else:
        reference.apply_rotary(q, k, positions, cos_sin_cache)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `reference.silu_mul`."""
    if gate_up.is_cuda and (kernels := cuda()) is not None and kernels.takes(gate_up):
        return kernels.silu_mul(gate_up)
    if _native is not None and _native.takes(gate_up) and gate_up.dim() == 2:
        return _native.silu_mul(gate_up)
    return reference.silu_mul(gate_up)


def store_kv(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    scales: KVScales | None = None,
) -> None:
    """See `reference.store_kv`."""
    if k.is_cuda and (kernels := cuda()) is not None and kernels.takes(k, v):
        kernels.store_kv(k, v, k_cache, v_cache, slot_mapping, scales)
        return
    if _native is not None and _native.takes_store(k, v, k_cache, v_cache, scales):
        _native.store_kv(k, v, k_cache, v_cache, slot_mapping, scales)
    else:
        reference.store_kv(k, v, k_cache, v_cache, slot_mapping, scales)


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: BatchContext,
    group: KVGroupBatch,
    scale: float,
    window: int | None,
    scales: KVScales | None = None,
) -> torch.Tensor:
    """See `reference.paged_attention`."""
    if q.is_cuda and (kernels := cuda()) is not None and kernels.takes(q):
        return kernels.paged_attention(q, k_cache, v_cache, batch, group, scale, window, scales)
    if _native is not None and _native.takes_attention(q, k_cache, v_cache, scales):
        return _native.paged_attention(q, k_cache, v_cache, batch, group, scale, window, scales)
    return reference.paged_attention(q, k_cache, v_cache, batch, group, scale, window, scales)


def linear(
    x: torch.Tensor,
    weight: torch.Tensor | PanelWeight | QuantizedWeight | SparseWeight,
    bias: torch.Tensor | None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """x [T, in] times weight [out, in] transposed, plus bias [out] -> [T, out].

    dtype: of the result, that of x or float32.
    """
    if isinstance(weight, PanelWeight):
        if _native is None or not _native.takes_linear(x, weight):
            raise RuntimeError(f"no kernel takes rows of {x.dtype} and a weight of {weight.dtype} in panels")
        return _native.linear(x, weight, bias, dtype)
    if isinstance(weight, QuantizedWeight):
        product = quantized_linear(x, weight, bias)
    elif isinstance(weight, SparseWeight):
        product = weight.linear(x, bias)
    elif x.is_cuda and (kernels := cuda()) is not None and kernels.takes(x, weight):
        product = kernels.linear(x, weight, bias)
    else:
        product = functional.linear(x, weight, bias)
    return product if dtype is None else product.to(dtype)


def pack(weight: torch.Tensor | QuantizedWeight, *, gated: bool = False) -> PanelWeight | None:
    """A weight in the form that products read fastest on this machine; None if that is the one that it has.

    gated: it is a gate above another weight, out / 2 rows each; the product is then silu(gate) * other.
    """
    if _native is None:
        return None
    if isinstance(weight, QuantizedWeight):
        return _native.pack_quantized(weight, gated=gated) if _native.takes_quantized(weight) else None
    return _native.pack(weight, gated=gated) if _native.worth_packing(weight) else None


def embedding(ids: torch.Tensor, weight: torch.Tensor | PanelWeight) -> torch.Tensor:
    """Rows of a weight [V, H] for int64 ids [T] -> [T, H]."""
    if isinstance(weight, PanelWeight):
        if _native is None:
            raise RuntimeError("no kernel reads a weight in panels")
        return _native.gather(weight, ids)
    return functional.embedding(ids, weight)


def quantized_linear(x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """See `reference.quantized_linear`."""
    if x.is_cuda and (kernels := cuda()) is not None and kernels.takes(x):
        return kernels.quantized_linear(x, weight, bias)
    return reference.quantized_linear(x, weight, bias)
