"""Which tokens min_p, top_k and top_p keep, as a least weight of each row.

All three keep the most likely tokens, so each is a threshold; tokens that tie at it are all kept. Thresholds depend on
the row alone: weights are integers, whose sums are exact in any order. Only a small vocabulary is sorted on the CPU; in
a large one a histogram of the weights' leading bits finds the threshold. CUDA halves the range of bits, without a wait.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lepton_engine.kernels.cuda import cuda
from lepton_engine.runtime.histogram import WeightHistogram
from lepton_engine.runtime.selection import top_values
from lepton_engine.runtime.transfer import to_device

_MAX_CANDIDATES = 1024
_MAX_SORTED = 1024


@dataclass(frozen=True, slots=True)
class Truncation:
    """What a row keeps: min_p in [0, 1] relative to the most likely, top_k >= 1 or 0 for all, top_p in (0, 1]."""

    min_p: float
    top_k: int
    top_p: float

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is cut."""
        return self.min_p == 0.0 and self.top_k == 0 and self.top_p >= 1.0


def truncate(weights: torch.Tensor, unit: float, rows: Sequence[Truncation]) -> None:
    """Set the weights of all tokens that are not kept to zero, in place: by min_p, then top_k, then top_p.

    Args:
        weights: float32 [R, V], integers from 0 to `unit`, which is the weight of the most likely token.
    """
    if weights.device.type == "cpu" and weights.shape[1] > _MAX_SORTED:
        _truncate_by_row(weights, unit, rows)
        return
    if any(row.min_p > 0.0 for row in rows):
        least = torch.tensor([row.min_p * unit for row in rows], dtype=torch.float32)
        weights.mul_(weights >= to_device(least, weights.device)[:, None])
    size = weights.shape[1]
    limited = [i for i, row in enumerate(rows) if 0 < row.top_k < size]
    if limited:
        counts = [rows[i].top_k for i in limited]
        _cut(weights, limited, lambda own: _least_of_counts(own, counts, unit))
    nucleus = [i for i, row in enumerate(rows) if row.top_p < 1.0]
    if nucleus:
        parts = [rows[i].top_p for i in nucleus]
        _cut(weights, nucleus, lambda own: _least_of_masses(own, parts, unit))


def _truncate_by_row(weights: torch.Tensor, unit: float, rows: Sequence[Truncation]) -> None:
    size = weights.shape[1]
    histogram = WeightHistogram(size, unit)
    for own, row in zip(weights, rows, strict=True):
        if row.min_p > 0.0:
            _drop_below(own, row.min_p * unit)
        if 0 < row.top_k < size:
            _drop_below(own, histogram.least_of_count(own, row.top_k))
        if row.top_p < 1.0:
            _drop_below(own, histogram.least_of_mass(own, row.top_p))


def _drop_below(weights: torch.Tensor, least: float) -> None:
    """Zero what is less than float32(least), in place; several times faster than by a mask. NaN stays."""
    torch.threshold_(weights, float(np.nextafter(np.float32(least), np.float32(-np.inf))), 0.0)


def _cut(weights: torch.Tensor, rows: list[int], least_of: Callable[[torch.Tensor], torch.Tensor]) -> None:
    if len(rows) == len(weights):
        weights.mul_(weights >= least_of(weights)[:, None])
        return
    index = to_device(torch.tensor(rows), weights.device)
    own = weights[index]
    weights[index] = own * (own >= least_of(own)[:, None])


def _least_of_counts(weights: torch.Tensor, counts: Sequence[int], unit: float) -> torch.Tensor:
    """The counts[r]-th largest weight of each row; float32 [R]."""
    wanted = to_device(torch.tensor(counts), weights.device)
    if weights.device.type == "cpu":
        return weights.sort(dim=-1, descending=True).values.gather(1, wanted[:, None] - 1)[:, 0]
    if weights.is_cuda and (kernels := cuda()) is not None:
        return kernels.least_weight(weights, wanted, counted=True)
    if max(counts) > _MAX_CANDIDATES:
        return by_bisection(weights, wanted, unit, counted=True)
    values, _ = top_values(weights, max(counts))
    return values.gather(1, wanted[:, None] - 1)[:, 0]


def _least_of_masses(weights: torch.Tensor, parts: Sequence[float], unit: float) -> torch.Tensor:
    """The weight at which the tokens from the most likely down reach parts[r] of the row's sum; float32 [R]."""
    total = weights.sum(dim=-1, dtype=torch.float64)
    wanted = to_device(torch.tensor(parts, dtype=torch.float64), weights.device) * total
    if weights.device.type == "cpu":
        ordered = weights.sort(dim=-1, descending=True).values
        reached = ordered.cumsum(dim=-1, dtype=torch.float64)
        last = (reached < wanted[:, None]).sum(dim=-1, keepdim=True).clamp_(max=ordered.shape[1] - 1)
        return ordered.gather(1, last)[:, 0]
    if weights.is_cuda and (kernels := cuda()) is not None:
        return kernels.least_weight(weights, wanted, counted=False)
    return by_bisection(weights, wanted, unit, counted=False)


def by_bisection(weights: torch.Tensor, wanted: torch.Tensor, unit: float, *, counted: bool) -> torch.Tensor:
    """The largest weight w of each row such that the weights >= w number (counted) or sum to at least wanted[r].

    On any device, without waiting for it. weights: float32 [R, V], integers from 0 to `unit`.

    Floats >= 0 are ordered as their bits are, so halving the range of bits finds the exact value in 31 rounds.
    """
    low = torch.zeros(len(wanted), dtype=torch.int32, device=wanted.device)
    high = torch.full_like(low, int(np.float32(unit).view(np.int32)))
    for _ in range(31):
        middle = low + (high - low + 1) // 2
        kept = weights >= middle.view(torch.float32)[:, None]
        measure = kept.sum(dim=-1) if counted else (weights * kept).sum(dim=-1, dtype=torch.float64)
        enough = measure >= wanted
        low = torch.where(enough, middle, low)
        high = torch.where(enough, high, middle - 1)
    return low.view(torch.float32)
