"""Keys and values into their cache slots."""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.triton.launch import next_power


@triton.jit
def _store_kv(
    k_ptr,
    v_ptr,
    k_cache_ptr,
    v_cache_ptr,
    slot_ptr,
    heads,
    dim,
    block_size,
    k_token_stride,
    k_head_stride,
    v_token_stride,
    v_head_stride,
    cache_block_stride,
    cache_head_stride,
    cache_row_stride,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_ptr + token).to(tl.int64)
    head = tl.arange(0, HEADS)[:, None]
    column = tl.arange(0, DIM)[None, :]
    inside = (head < heads) & (column < dim)
    target = (slot // block_size) * cache_block_stride + (slot % block_size) * cache_row_stride
    target = target + head * cache_head_stride + column
    k = tl.load(k_ptr + token * k_token_stride + head * k_head_stride + column, mask=inside)
    tl.store(k_cache_ptr + target, k.to(k_cache_ptr.dtype.element_ty), mask=inside)
    v = tl.load(v_ptr + token * v_token_stride + head * v_head_stride + column, mask=inside)
    tl.store(v_cache_ptr + target, v.to(v_cache_ptr.dtype.element_ty), mask=inside)


def store_kv(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, slot_mapping: torch.Tensor
) -> None:
    """See `reference.store_kv`; the last dimension of k and v is contiguous, the caches are laid out alike."""
    if k.shape[0] == 0:
        return
    _store_kv[(k.shape[0],)](
        k,
        v,
        k_cache,
        v_cache,
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
        HEADS=next_power(k.shape[1]),
        DIM=next_power(k.shape[2]),
        num_warps=4,
        enable_fp_fusion=False,
    )
