"""Which tokens min_p, top_k and top_p keep, as a least weight of each row.

All three keep the most likely tokens, so each is a threshold; tokens that tie at it are all kept. Thresholds depend on
the row alone: weights are integers, whose sums are exact in any order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lepton_engine.runtime.selection import top_values
from lepton_engine.runtime.transfer import to_device

_NUCLEUS_CANDIDATES = 256
_MAX_CANDIDATES = 1024


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
        least = to_device(torch.tensor([row.min_p * unit for row in rows], dtype=torch.float32), weights.device)
        weights.mul_(weights >= least[:, None])
    size = weights.shape[1]
    limited = [i for i, row in enumerate(rows) if 0 < row.top_k < size]
    if limited:
        counts = [rows[i].top_k for i in limited]
        _cut(weights, limited, lambda own: _least_of_top_k(own, counts, unit))
    nucleus = [i for i, row in enumerate(rows) if row.top_p < 1.0]
    if nucleus:
        masses = [rows[i].top_p for i in nucleus]
        _cut(weights, nucleus, lambda own: _least_of_top_p(own, masses, unit))


def _cut(weights: torch.Tensor, rows: list[int], least_of: Callable[[torch.Tensor], torch.Tensor]) -> None:
    if len(rows) == len(weights):
        weights.mul_(weights >= least_of(weights)[:, None])
        return
    index = to_device(torch.tensor(rows), weights.device)
    own = weights[index]
    weights[index] = own * (own >= least_of(own)[:, None])


def _least_of_top_k(weights: torch.Tensor, counts: list[int], unit: float) -> torch.Tensor:
    wanted = to_device(torch.tensor(counts), weights.device)
    if max(counts) > _MAX_CANDIDATES:
        return _bisect(unit, wanted, lambda least: (weights >= least[:, None]).sum(dim=-1))
    values, _ = top_values(weights, max(counts))
    return values.gather(1, wanted[:, None] - 1)[:, 0]


def _least_of_top_p(weights: torch.Tensor, masses: list[float], unit: float) -> torch.Tensor:
    """The weight at which the tokens from the most likely down reach the mass."""
    total = weights.sum(dim=-1, dtype=torch.float64)
    wanted = to_device(torch.tensor(masses, dtype=torch.float64), weights.device) * total
    if weights.device.type != "cpu":
        # Whether few candidates suffice could only be asked by waiting for the device.
        return _bisect_mass(weights, wanted, unit)
    values, _ = top_values(weights, min(_NUCLEUS_CANDIDATES, weights.shape[1]))
    reached = values.cumsum(dim=-1, dtype=torch.float64)
    count = (reached < wanted[:, None]).sum(dim=-1)
    least = values.gather(1, count.clamp(max=values.shape[1] - 1)[:, None])[:, 0]
    open_rows = (count == values.shape[1]).nonzero()[:, 0]
    if len(open_rows):
        least[open_rows] = _bisect_mass(weights[open_rows], wanted[open_rows], unit)
    return least


def _bisect_mass(weights: torch.Tensor, wanted: torch.Tensor, unit: float) -> torch.Tensor:
    return _bisect(unit, wanted, lambda least: (weights * (weights >= least[:, None])).sum(-1, dtype=torch.float64))


def _bisect(unit: float, wanted: torch.Tensor, measure: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The largest float32 up to `unit` at which a measure that falls with it is still >= wanted; float32 [R].

    Floats >= 0 are ordered as their bits are, so halving the range of bits finds the exact value in 31 rounds.
    """
    low = torch.zeros(len(wanted), dtype=torch.int32, device=wanted.device)
    high = torch.full_like(low, int(np.float32(unit).view(np.int32)))
    for _ in range(31):
        middle = low + (high - low + 1) // 2
        enough = measure(middle.view(torch.float32)) >= wanted
        low = torch.where(enough, middle, low)
        high = torch.where(enough, high, middle - 1)
    return low.view(torch.float32)
