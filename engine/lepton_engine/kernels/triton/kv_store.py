"""Keys and values into their cache slots, quantised on the way where the cache is."""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.triton.launch import next_power

_LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


@triton.jit
def _store_heads(
    x_ptr,
    cache_ptr,
    scale_ptr,
    heads,
    dim,
    head_stride,
    target,
    scale_target,
    cache_head_stride,
    scale_head_stride,
    largest,
    SCALED: tl.constexpr,
    INTEGERS: tl.constexpr,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
):
    head = tl.arange(0, HEADS)
    column = tl.arange(0, DIM)[None, :]
    inside = (head < heads)[:, None] & (column < dim)
    x = tl.load(x_ptr + head[:, None] * head_stride + column, mask=inside, other=0.0)
    if SCALED:
        x = x.to(tl.float32)
        broken = tl.sum((x != x).to(tl.int32), axis=1) > 0
        magnitude = tl.max(tl.abs(x), axis=1)
        scale = tl.where(magnitude == 0.0, 1.0, tl.math.div_rn(magnitude, largest))
        x = tl.math.div_rn(x, scale[:, None])
        if INTEGERS:
            # Adding and taking away 1.5 * 2**23 rounds half to even.
            x = (x + 12582912.0) - 12582912.0
        x = tl.where(broken[:, None], 0.0, tl.minimum(tl.maximum(x, -largest), largest))
        scale = tl.where(broken, float("nan"), scale)
        tl.store(scale_ptr + scale_target + head * scale_head_stride, scale, mask=head < heads)
    at = cache_ptr + target + head[:, None] * cache_head_stride + column
    tl.store(at, x.to(cache_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _store_kv(
    k_ptr,
    v_ptr,
    k_cache_ptr,
    v_cache_ptr,
    k_scale_ptr,
    v_scale_ptr,
    slot_ptr,
    heads,
    dim,
    block_size,
    k_token_stride,
    k_head_stride,
    v_token_stride,
    v_head_stride,
    block_stride,
    head_stride,
    row_stride,
    scale_block_stride,
    scale_head_stride,
    largest,
    SCALED: tl.constexpr,
    INTEGERS: tl.constexpr,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_ptr + token).to(tl.int64)
    block = slot // block_size
    offset = slot % block_size
    target = block * block_stride + offset * row_stride
    scale_target = block * scale_block_stride + offset
    _store_heads(
        k_ptr + token * k_token_stride,
        k_cache_ptr,
        k_scale_ptr,
        heads,
        dim,
        k_head_stride,
        target,
        scale_target,
        head_stride,
        scale_head_stride,
        largest,
        SCALED,
        INTEGERS,
        HEADS,
        DIM,
    )
    _store_heads(
        v_ptr + token * v_token_stride,
        v_cache_ptr,
        v_scale_ptr,
        heads,
        dim,
        v_head_stride,
        target,
        scale_target,
        head_stride,
        scale_head_stride,
        largest,
        SCALED,
        INTEGERS,
        HEADS,
        DIM,
    )


def store_kv(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    scales: KVScales | None = None,
) -> None:
    """See `reference.store_kv`; the last dimension of k and v is contiguous, the caches are laid out alike."""
    if k.shape[0] == 0:
        return
    _store_kv[(k.shape[0],)](
        k,
        v,
        k_cache,
        v_cache,
        scales.keys if scales is not None else k_cache,
        scales.values if scales is not None else v_cache,
        slot_mapping,
        k.shape[1],
        k.shape[2],
        k_cache.shape[2],
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        scales.keys.stride(0) if scales is not None else 0,
        scales.keys.stride(1) if scales is not None else 0,
        _LARGEST.get(k_cache.dtype, 0.0),
        SCALED=scales is not None,
        INTEGERS=k_cache.dtype == torch.int8,
        HEADS=next_power(k.shape[1]),
        DIM=next_power(k.shape[2]),
        num_warps=4,
        enable_fp_fusion=False,
    )
