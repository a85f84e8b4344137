"""Which tokens min_p, top_k and top_p keep, as a least weight of each row.

All three keep the most likely tokens, so each is a threshold; tokens that tie at it are all kept. Thresholds depend on
the row alone: weights are integers, whose sums are exact in any order. Nothing is sorted: a threshold is found in a
histogram of the weights' leading bits (CPU), or by halving the range of bits (CUDA, where it needs no wait).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lepton_engine.runtime.selection import top_values
from lepton_engine.runtime.transfer import to_device

_MAX_CANDIDATES = 1024
_BUCKET_SHIFT = 15  # A bucket holds the floats that agree in sign, exponent and the first 8 bits of the fraction.
_FIRST_BUCKET = (127 << (23 - _BUCKET_SHIFT)) - 1  # 1.0 goes to bucket 1, 0.0 to bucket 0.


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
    if any(row.min_p > 0.0 for row in rows):
        least = torch.tensor([row.min_p * unit for row in rows], dtype=torch.float32)
        weights.mul_(weights >= to_device(least, weights.device)[:, None])
    size = weights.shape[1]
    limited = [i for i, row in enumerate(rows) if 0 < row.top_k < size]
    if limited:
        counts = [rows[i].top_k for i in limited]
        _cut(weights, limited, lambda own: least_of_top_k(own, counts, unit))
    nucleus = [i for i, row in enumerate(rows) if row.top_p < 1.0]
    if nucleus:
        masses = [rows[i].top_p for i in nucleus]
        _cut(weights, nucleus, lambda own: least_of_top_p(own, masses, unit))


def _cut(weights: torch.Tensor, rows: list[int], least_of: Callable[[torch.Tensor], torch.Tensor]) -> None:
    if len(rows) == len(weights):
        weights.mul_(weights >= least_of(weights)[:, None])
        return
    index = to_device(torch.tensor(rows), weights.device)
    own = weights[index]
    weights[index] = own * (own >= least_of(own)[:, None])


def least_of_top_k(weights: torch.Tensor, counts: Sequence[int], unit: float) -> torch.Tensor:
    """The counts[r]-th largest weight of each row; float32 [R]."""
    if weights.device.type == "cpu":
        return by_histogram(weights, torch.tensor(counts), counted=True)
    wanted = to_device(torch.tensor(counts), weights.device)
    if max(counts) > _MAX_CANDIDATES:
        return by_bisection(weights, wanted, unit, counted=True)
    values, _ = top_values(weights, max(counts))
    return values.gather(1, wanted[:, None] - 1)[:, 0]


def least_of_top_p(weights: torch.Tensor, masses: Sequence[float], unit: float) -> torch.Tensor:
    """The weight at which the tokens from the most likely down reach masses[r] of the row's sum; float32 [R]."""
    total = weights.sum(dim=-1, dtype=torch.float64)
    wanted = to_device(torch.tensor(masses, dtype=torch.float64), weights.device) * total
    if weights.device.type == "cpu":
        return by_histogram(weights, wanted, counted=False)
    return by_bisection(weights, wanted, unit, counted=False)


def by_histogram(weights: torch.Tensor, wanted: torch.Tensor, *, counted: bool) -> torch.Tensor:
    """The largest weight w of each row such that the weights >= w number (counted) or sum to at least wanted[r].

    Args:
        weights: float32 [R, V] on the CPU, integers >= 0. A row with NaN gets some threshold.
    """
    rows = len(weights)
    buckets = (weights.view(torch.int32) >> _BUCKET_SHIFT).sub_(_FIRST_BUCKET).clamp_(min=0)
    width = int(buckets.max()) + 1
    keys = (buckets + torch.arange(rows, dtype=torch.int32)[:, None] * width).view(-1)
    measures = None if counted else weights.to(torch.float64).view(-1)
    histogram = torch.bincount(keys, weights=measures, minlength=rows * width).view(rows, width)
    above = histogram.flip(-1).cumsum(-1)
    place = (above < wanted[:, None]).sum(-1).clamp_(max=width - 1)
    before = above.gather(1, place[:, None])[:, 0] - histogram.gather(1, width - 1 - place[:, None])[:, 0]
    inside = buckets == (width - 1 - place)[:, None]
    least = np.empty(rows, dtype=np.float32)
    values = weights[inside].numpy()
    ends = inside.sum(-1).cumsum(-1).tolist()
    for row, (start, end, rest) in enumerate(zip([0, *ends], ends, (wanted - before).tolist(), strict=False)):
        own = np.sort(values[start:end])[::-1]
        if not len(own):  # the row holds NaN
            least[row] = 0.0
            continue
        reached = np.arange(1, len(own) + 1) if counted else own.cumsum(dtype=np.float64)
        least[row] = own[min(int(np.searchsorted(reached, rest)), len(own) - 1)]
    return torch.from_numpy(least)


def by_bisection(weights: torch.Tensor, wanted: torch.Tensor, unit: float, *, counted: bool) -> torch.Tensor:
    """As `by_histogram`, on any device and without waiting for it.

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
