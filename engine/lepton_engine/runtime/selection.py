"""Choosing from rows of the vocabulary in ways that do not depend on the other rows, nor on the order of additions.

Rows are seen in blocks, so that one fast pass over the vocabulary leaves little to search.
"""

import torch
import torch.nn.functional as F

from lepton_engine.kernels.cpu import native
from lepton_engine.kernels.cuda import cuda

BLOCK = 128
_SMALL_BLOCK = 32


def pad_to_blocks(rows: torch.Tensor, block: int, value: float) -> torch.Tensor:
    """[R, V] -> [R, ceil(V / block), block], padded with `value`; a view where V is a multiple."""
    missing = -rows.shape[1] % block
    padded = F.pad(rows, (0, missing), value=value) if missing else rows.contiguous()
    return padded.view(rows.shape[0], -1, block)


def first_argmax(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest value and its lowest index in each row of [R, V]; NaN counts as largest."""
    if rows.is_cuda and (kernels := cuda()) is not None:
        return kernels.first_argmax(rows)
    if (own := native()) is not None and own.takes(rows) and rows.dtype == torch.float32:
        return own.argmax(rows)
    blocks = pad_to_blocks(rows, BLOCK, -torch.inf)
    best, block = blocks.amax(dim=-1).max(dim=-1)
    chosen = blocks[torch.arange(len(rows), device=rows.device), block]
    return best, block * BLOCK + chosen.argmax(dim=-1)


def top_values(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest values of each row of [R, V], best first (of equals the lowest index first), with indices.

    The count blocks with the largest maxima hold the count largest values, so only those are searched.
    """
    count = min(count, rows.shape[1])
    if count * _SMALL_BLOCK * 2 > rows.shape[1]:
        indices = _first_top(rows, torch.arange(rows.shape[1], device=rows.device).expand_as(rows), count)
        return rows.gather(1, indices), indices
    blocks = pad_to_blocks(rows, _SMALL_BLOCK, -torch.inf)
    best = blocks.amax(dim=-1)
    chosen = _first_top(best, torch.arange(best.shape[1], device=rows.device).expand_as(best), count)
    candidates = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _SMALL_BLOCK)).flatten(1)
    inside = torch.arange(_SMALL_BLOCK, device=rows.device)
    indices = _first_top(candidates, (chosen[:, :, None] * _SMALL_BLOCK + inside).flatten(1), count)
    # Padding has the highest indices and so comes last of all that is -inf, but before the NaN of some signs.
    indices.clamp_(max=rows.shape[1] - 1)
    return rows.gather(1, indices), indices


def _first_top(values: torch.Tensor, indices: torch.Tensor, count: int) -> torch.Tensor:
    """The indices of the `count` largest values of each row, of equal ones the lowest first.

    Ordered by one integer each: the bits of the value, ordered as the value is, above the complement of the index. What
    torch.topk takes of equal values would depend on `count`, and so on the other rows.
    """
    bits = (values + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys = (ordered.to(torch.int64) << 32) | (0xFFFFFFFF - indices)
    return 0xFFFFFFFF - (keys.topk(count, dim=-1).values & 0xFFFFFFFF)


def draw(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative distribution of each row.

    Args:
        weights: float32 [R, V], integers >= 0 whose row sums stay below 2**53: then every sum in float64 is exact,
            whatever its order. NaN anywhere in a row draws index 0.
        uniforms: float64 [R] in [0, 1).

    Returns:
        int64 [R], an index of positive weight.
    """
    if weights.is_cuda and (kernels := cuda()) is not None:
        return kernels.draw(weights, uniforms)
    blocks = pad_to_blocks(weights, BLOCK, 0.0)
    reached = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    total = reached[:, -1]
    target = torch.minimum((uniforms * total).floor(), total - 1)[:, None]
    block = (reached <= target).sum(dim=-1)
    before = torch.where(block > 0, reached.gather(1, (block - 1).clamp_(min=0)[:, None])[:, 0], 0.0)
    chosen = blocks[torch.arange(len(weights), device=weights.device), block]
    inside = chosen.cumsum(dim=-1, dtype=torch.float64)
    return block * BLOCK + (inside <= target - before[:, None]).sum(dim=-1)
