"""Rotary positions, in place."""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.triton.launch import next_power


@triton.jit
def _turn(x_ptr, heads, head_stride, cos, sin, half, HEADS: tl.constexpr, HALF: tl.constexpr):
    head = tl.arange(0, HEADS)
    column = tl.arange(0, HALF)
    inside = (head < heads)[:, None] & (column < half)[None, :]
    at = x_ptr + head[:, None] * head_stride + column[None, :]
    first = tl.load(at, mask=inside, other=0.0)
    second = tl.load(at + half, mask=inside, other=0.0)
    a = first.to(tl.float32)
    b = second.to(tl.float32)
    tl.store(at, (a * cos[None, :] - b * sin[None, :]).to(first.dtype), mask=inside)
    tl.store(at + half, (b * cos[None, :] + a * sin[None, :]).to(first.dtype), mask=inside)


@triton.jit
def _rotary(
    q_ptr,
    k_ptr,
    position_ptr,
    table_ptr,
    q_heads,
    k_heads,
    half,
    q_token_stride,
    q_head_stride,
    k_token_stride,
    k_head_stride,
    table_stride,
    Q_HEADS: tl.constexpr,
    K_HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    position = tl.load(position_ptr + token).to(tl.int64)
    column = tl.arange(0, HALF)
    row = table_ptr + position * table_stride + column
    cos = tl.load(row, mask=column < half, other=0.0)
    sin = tl.load(row + half, mask=column < half, other=0.0)
    _turn(q_ptr + token * q_token_stride, q_heads, q_head_stride, cos, sin, half, Q_HEADS, HALF)
    _turn(k_ptr + token * k_token_stride, k_heads, k_head_stride, cos, sin, half, K_HEADS, HALF)


def apply_rotary(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos_sin_cache: torch.Tensor) -> None:
    """See `reference.apply_rotary`; the last dimension of q and k is contiguous."""
    if q.shape[0] == 0:
        return
    half = cos_sin_cache.shape[-1] // 2
    _rotary[(q.shape[0],)](
        q,
        k,
        positions,
        cos_sin_cache,
        q.shape[1],
        k.shape[1],
        half,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        cos_sin_cache.stride(0),
        Q_HEADS=next_power(q.shape[1]),
        K_HEADS=next_power(k.shape[1]),
        HALF=next_power(half),
        num_warps=4,
        enable_fp_fusion=False,
    )
