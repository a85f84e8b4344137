"""The most likely token of a row, and a draw from its distribution, as `runtime.selection` and the sampler define them.

A row is cut into chunks that run side by side. Weights are integers whose sums are exact in float64 in any order, so
the chunks change nothing; see `runtime/sampler.py`.
"""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.triton.launch import blocks, next_power
from lepton_engine.kernels.triton.tuning import pick


@triton.jit
def _chunk_best(rows_ptr, best_ptr, index_ptr, size, row_stride, chunks, CHUNK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    index = chunk * CHUNK + tl.arange(0, CHUNK)
    values = tl.load(rows_ptr + row * row_stride + index, mask=index < size, other=float("-inf"))
    broken = tl.sum((values != values).to(tl.int32), axis=0) > 0
    best = tl.max(tl.where(values != values, float("-inf"), values), axis=0)
    first = tl.min(tl.where((values == best) & (index < size), index, size), axis=0)
    tl.store(best_ptr + row * chunks + chunk, tl.where(broken, float("nan"), best))
    tl.store(index_ptr + row * chunks + chunk, tl.minimum(first, size - 1))


@triton.jit
def _row_best(best_ptr, index_ptr, value_ptr, token_ptr, chunks, CHUNKS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.arange(0, CHUNKS)
    real = chunk < chunks
    bests = tl.load(best_ptr + row * chunks + chunk, mask=real, other=float("-inf"))
    indices = tl.load(index_ptr + row * chunks + chunk, mask=real, other=2147483647)
    broken = tl.sum((bests != bests).to(tl.int32), axis=0) > 0
    best = tl.max(tl.where(bests != bests, float("-inf"), bests), axis=0)
    token = tl.min(tl.where(real & (bests == best), indices, 2147483647), axis=0)
    tl.store(value_ptr + row, tl.where(broken, float("nan"), best))
    tl.store(token_ptr + row, tl.where(broken, 0, token).to(tl.int64))


def first_argmax(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest value, float32 [R], and its lowest index, int64 [R], in each row of [R, V]; NaN where a row holds one.

    Args:
        rows: float32, the last dimension contiguous.
    """
    count, size = rows.shape
    best = torch.empty(count, dtype=torch.float32, device=rows.device)
    tokens = torch.empty(count, dtype=torch.int64, device=rows.device)
    if count == 0:
        return best, tokens
    tiles = pick("sampling", rows.device)
    chunk = min(tiles["chunk"], next_power(size))
    chunks = blocks(size, chunk)
    bests = torch.empty(count, chunks, dtype=torch.float32, device=rows.device)
    indices = torch.empty(count, chunks, dtype=torch.int32, device=rows.device)
    options = {"num_warps": tiles["warps"], "enable_fp_fusion": False}
    _chunk_best[(count, chunks)](rows, bests, indices, size, rows.stride(0), chunks, CHUNK=chunk, **options)
    _row_best[(count,)](bests, indices, best, tokens, chunks, CHUNKS=next_power(chunks), **options)
    return best, tokens


@triton.jit
def _weights_of(values_ptr, index, size, best, scale, unit, LOGITS: tl.constexpr):
    """Of a chunk, float64; of logits, floor(unit * exp((logit - best) / scale)), in float32 as the twin does."""
    if LOGITS:
        values = tl.load(values_ptr + index, mask=index < size, other=float("-inf"))
        weights = tl.floor(tl.exp(tl.math.div_rn(values - best, scale)) * unit)
    else:
        weights = tl.load(values_ptr + index, mask=index < size, other=0.0)
    return weights.to(tl.float64)


@triton.jit
def _chunk_sums(
    values_ptr, best_ptr, scale_ptr, sums_ptr, size, row_stride, chunks, unit, LOGITS: tl.constexpr, CHUNK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    best = tl.load(best_ptr + row) if LOGITS else 0.0
    scale = tl.load(scale_ptr + row) if LOGITS else 1.0
    index = chunk * CHUNK + tl.arange(0, CHUNK)
    weights = _weights_of(values_ptr + row * row_stride, index, size, best, scale, unit, LOGITS)
    tl.store(sums_ptr + row * chunks + chunk, tl.sum(weights, axis=0))


@triton.jit
def _draw(
    values_ptr,
    best_ptr,
    scale_ptr,
    sums_ptr,
    uniform_ptr,
    token_ptr,
    size,
    row_stride,
    chunks,
    unit,
    LOGITS: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, CHUNKS)
    sums = tl.load(sums_ptr + row * chunks + at, mask=at < chunks, other=0.0)
    total = tl.sum(sums, axis=0)
    target = tl.minimum(tl.floor(tl.load(uniform_ptr + row) * total), total - 1.0)
    passed = (tl.cumsum(sums, axis=0) <= target) & (at < chunks)
    chunk = tl.minimum(tl.sum(passed.to(tl.int32), axis=0), chunks - 1)
    left = target - tl.sum(tl.where(passed, sums, 0.0), axis=0)
    best = tl.load(best_ptr + row) if LOGITS else 0.0
    scale = tl.load(scale_ptr + row) if LOGITS else 1.0
    index = chunk * CHUNK + tl.arange(0, CHUNK)
    weights = _weights_of(values_ptr + row * row_stride, index, size, best, scale, unit, LOGITS)
    inside = tl.sum((tl.cumsum(weights, axis=0) <= left).to(tl.int32), axis=0)
    tl.store(token_ptr + row, tl.minimum(chunk * CHUNK + inside, size - 1).to(tl.int64))


def draw_from_logits(
    logits: torch.Tensor, best: torch.Tensor, scale: torch.Tensor, uniforms: torch.Tensor, unit: float
) -> torch.Tensor:
    """Draws a token for each row, int64 [R]: softmax of logits / scale, inverted at `uniforms`.

    The weight of a token is floor(unit * exp((logit - best) / scale)); no weights are written to memory.

    Args:
        logits: float32 [R, V], the last dimension contiguous. best: float32 [R], the largest of each row.
        scale: float32 [R], temperatures. uniforms: float64 [R] in [0, 1). unit: a power of two.
    """
    return _invert(logits, best, scale, uniforms, unit)


def draw(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """See `runtime.selection.draw`."""
    return _invert(weights, None, None, uniforms, 1.0)


def _invert(
    values: torch.Tensor,
    best: torch.Tensor | None,
    scale: torch.Tensor | None,
    uniforms: torch.Tensor,
    unit: float,
) -> torch.Tensor:
    count, size = values.shape
    tokens = torch.empty(count, dtype=torch.int64, device=values.device)
    if count == 0:
        return tokens
    tiles = pick("sampling", values.device)
    chunk = min(tiles["chunk"], next_power(size))
    chunks = blocks(size, chunk)
    sums = torch.empty(count, chunks, dtype=torch.float64, device=values.device)
    best = best if best is not None else values
    scale = scale if scale is not None else values
    # Rows of a [R, 2] tensor of numbers are strided.
    scale, uniforms = scale.contiguous(), uniforms.contiguous()
    logits = best is not values
    options = {"LOGITS": logits, "CHUNK": chunk, "num_warps": tiles["warps"], "enable_fp_fusion": False}
    stride = values.stride(0)
    _chunk_sums[(count, chunks)](values, best, scale, sums, size, stride, chunks, unit, **options)
    _draw[(count,)](
        values,
        best,
        scale,
        sums,
        uniforms,
        tokens,
        size,
        stride,
        chunks,
        unit,
        CHUNKS=next_power(chunks),
        **options,
    )
    return tokens
