"""The least weight that top_k and top_p keep, found by four bits at a time of its float32 pattern."""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.triton.launch import blocks, next_power
from lepton_engine.kernels.triton.tuning import pick

_BITS = 4
_FIRST_SHIFT = 28  # of a float >= 0 the highest bit is zero: the first round has three bits


@triton.jit
def _advance(prefix_ptr, parts_ptr, wanted, row, chunks, shift, DIGITS: tl.constexpr, CHUNKS: tl.constexpr):
    """The bits found so far with those of the round that left its measures behind."""
    chunk = tl.arange(0, CHUNKS)[:, None]
    digit = tl.arange(0, DIGITS)[None, :]
    at = (row * chunks + chunk) * DIGITS + digit
    measures = tl.sum(tl.load(parts_ptr + at, mask=(chunk < chunks) & (digit > 0), other=0.0), axis=0)
    # Measures fall as digits rise, so those that are enough are the lowest ones.
    digits = tl.arange(0, DIGITS)
    found = tl.sum(((measures >= wanted) & (digits > 0)).to(tl.int32), axis=0)
    return tl.load(prefix_ptr + row) + (found << shift)


@triton.jit(do_not_specialize=["shift"])
def _round(
    weights_ptr,
    wanted_ptr,
    prefix_ptr,
    parts_ptr,
    new_prefix_ptr,
    new_parts_ptr,
    size,
    row_stride,
    chunks,
    shift,
    FIRST: tl.constexpr,
    OLD_DIGITS: tl.constexpr,
    DIGITS: tl.constexpr,
    COUNTED: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    prefix = tl.load(prefix_ptr + row)
    if not FIRST:
        wanted = tl.load(wanted_ptr + row)
        prefix = _advance(prefix_ptr, parts_ptr, wanted, row, chunks, shift + 4, OLD_DIGITS, CHUNKS)
    tl.store(new_prefix_ptr + row, prefix)
    index = chunk * CHUNK + tl.arange(0, CHUNK)
    weights = tl.load(weights_ptr + row * row_stride + index, mask=index < size, other=0.0)
    for digit in tl.static_range(1, DIGITS):
        least = (prefix + (digit << shift)).to(tl.float32, bitcast=True)
        kept = weights >= least
        if COUNTED:
            measure = tl.sum(kept.to(tl.int32), axis=0).to(tl.float64)
        else:
            measure = tl.sum(tl.where(kept, weights, 0.0).to(tl.float64), axis=0)
        tl.store(new_parts_ptr + (row * chunks + chunk) * DIGITS + digit, measure)


@triton.jit
def _finish(prefix_ptr, parts_ptr, wanted_ptr, least_ptr, chunks, DIGITS: tl.constexpr, CHUNKS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    prefix = _advance(prefix_ptr, parts_ptr, tl.load(wanted_ptr + row), row, chunks, 0, DIGITS, CHUNKS)
    tl.store(least_ptr + row, prefix.to(tl.float32, bitcast=True))


def least_weight(weights: torch.Tensor, wanted: torch.Tensor, *, counted: bool) -> torch.Tensor:
    """See `runtime.truncation.by_bisection`; nine launches.

    Args:
        weights: float32 [R, V], integers >= 0, the last dimension contiguous. wanted: [R], positive.
    """
    count, size = weights.shape
    least = torch.empty(count, dtype=torch.float32, device=weights.device)
    if count == 0:
        return least
    tiles = pick("sampling", weights.device)
    chunk = min(tiles["chunk"], next_power(size))
    chunks = blocks(size, chunk)
    digits = 1 << _BITS
    prefixes = torch.zeros(2, count, dtype=torch.int32, device=weights.device)
    parts = torch.empty(2, count * chunks * digits, dtype=torch.float64, device=weights.device)
    wanted = wanted.to(torch.float64).contiguous()
    options = {"num_warps": tiles["warps"], "enable_fp_fusion": False}
    for number, shift in enumerate(range(_FIRST_SHIFT, -1, -_BITS)):
        old, new = (number + 1) % 2, number % 2
        _round[(count, chunks)](
            weights,
            wanted,
            prefixes[old],
            parts[old],
            prefixes[new],
            parts[new],
            size,
            weights.stride(0),
            chunks,
            shift,
            FIRST=number == 0,
            OLD_DIGITS=digits // 2 if number == 1 else digits,
            DIGITS=digits // 2 if number == 0 else digits,
            COUNTED=counted,
            CHUNK=chunk,
            CHUNKS=next_power(chunks),
            **options,
        )
    _finish[(count,)](
        prefixes[new], parts[new], wanted, least, chunks, DIGITS=digits, CHUNKS=next_power(chunks), **options
    )
    return least
