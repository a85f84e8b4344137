"""Thresholds of top_k and top_p on the CPU, row by row: a row and its buckets stay in a core's cache."""

import numpy as np
import torch

_SHIFT = 17  # A bucket holds the floats that agree in sign, exponent and the first 6 bits of the fraction.
_FIRST = (127 << (23 - _SHIFT)) - 1  # 1.0 goes to bucket 1, 0.0 to bucket 0.


class WeightHistogram:
    """Finds thresholds among the weights of one row after another.

    Weights are integers, so the sums are exact in any order. Floats >= 0 are ordered as their bits are: buckets of
    their leading bits leave only one bucket to be sorted.

    Args:
        size: weights in a row. unit: the largest weight that may occur.
    """

    def __init__(self, size: int, unit: float) -> None:
        self._width = int(np.float32(unit).view(np.int32) >> _SHIFT) - _FIRST + 1
        self._buckets = torch.empty(size, dtype=torch.int32)
        self._measures = torch.empty(size, dtype=torch.float64)

    def least_of_count(self, weights: torch.Tensor, count: int) -> float:
        """The count-th largest of the weights, float32 [size] from 0 to `unit`; anything if they hold NaN."""
        above = self._from_the_top(weights, None)
        place, inside = self._bucket(weights, above, count)
        return _at(inside, count - int(_before(above, place)) - 1)

    def least_of_mass(self, weights: torch.Tensor, part: float) -> float:
        """The weight w such that the weights >= w, and no fewer, reach this part of the sum; anything if they hold NaN.

        Args:
            weights: as in `least_of_count`. part: in (0, 1].
        """
        above = self._from_the_top(weights, self._measures.copy_(weights))
        wanted = part * above[-1]
        place, inside = self._bucket(weights, above, wanted)
        reached = inside.cumsum(dtype=np.float64)
        return _at(inside, int(np.searchsorted(reached, wanted - _before(above, place))))

    def _from_the_top(self, weights: torch.Tensor, measures: torch.Tensor | None) -> np.ndarray:
        """The buckets' measures, the largest weights first, added up."""
        torch.bitwise_right_shift(weights.view(torch.int32), _SHIFT, out=self._buckets)
        self._buckets.sub_(_FIRST).clamp_(0, self._width - 1)
        return torch.bincount(self._buckets, weights=measures, minlength=self._width).numpy()[::-1].cumsum()

    def _bucket(self, weights: torch.Tensor, above: np.ndarray, wanted: float) -> tuple[int, np.ndarray]:
        """The bucket, from the top, in which `wanted` is reached, and its weights, the largest first."""
        place = min(int(np.searchsorted(above, wanted)), self._width - 1)
        inside = weights.numpy()[self._buckets.numpy() == self._width - 1 - place]
        return place, np.sort(inside)[::-1]


def _before(above: np.ndarray, place: int) -> float:
    return float(above[place - 1]) if place else 0.0


def _at(inside: np.ndarray, index: int) -> float:
    return float(inside[min(index, len(inside) - 1)]) if len(inside) else 0.0
