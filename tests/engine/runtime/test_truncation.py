"""The ways to find a threshold agree to the bit, with one another and with plain sums of integers."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from lepton_engine.runtime.histogram import WeightHistogram
from lepton_engine.runtime.truncation import Truncation, by_bisection, truncate

UNIT = 2.0**36
MASSES = (1e-6, 0.1, 0.5, 0.9, 0.999999, 1.0)


def weights_of(kind: str, size: int) -> torch.Tensor:
    """float32 [size], whole numbers from 0 to UNIT, the largest of which is UNIT."""
    generator = torch.Generator().manual_seed(size)
    logits = torch.randn(size, generator=generator)
    if kind == "peaked":
        logits *= 8
    elif kind == "ties":
        logits = logits.round()
    elif kind == "flat":
        logits.zero_()
    elif kind == "one":
        logits[:] = -torch.inf
        logits[size // 2] = 0
    return (logits - logits.max()).exp().mul(UNIT).floor()


def exact_least(weights: torch.Tensor, part: float) -> float:
    ordered = sorted(map(int, weights.tolist()), reverse=True)
    total, reached = sum(ordered), 0
    wanted = Fraction(part * float(total))
    for weight in ordered:
        reached += weight
        if reached >= wanted:
            return float(weight)
    return float(ordered[-1])


@pytest.mark.parametrize("kind", ["spread", "peaked", "ties", "flat", "one"])
@pytest.mark.parametrize("size", [1, 2, 127, 3000])
def test_all_ways_to_a_threshold_agree(kind: str, size: int) -> None:
    weights = weights_of(kind, size)
    histogram = WeightHistogram(size, UNIT)
    total = weights.sum(dtype=torch.float64)
    for part in MASSES:
        least = histogram.least_of_mass(weights, part)
        assert least == exact_least(weights, part)
        wanted = (part * total)[None]
        assert by_bisection(weights[None], wanted, UNIT, counted=False).item() == least
    ordered = weights.sort(descending=True).values
    for count in {1, min(2, size), (size + 1) // 2, size}:
        least = histogram.least_of_count(weights, count)
        assert least == ordered[count - 1].item()
        assert by_bisection(weights[None], torch.tensor([count]), UNIT, counted=True).item() == least


@pytest.mark.parametrize("size", [1000, 1024, 1025, 3001])
def test_small_and_large_vocabularies_are_cut_alike(size: int) -> None:
    """Tokens of weight 0 more or less change nothing, though they decide how thresholds are found."""
    cuts = [Truncation(0.0, 0, 0.7), Truncation(0.02, 30, 0.9), Truncation(0.0, 200, 1.0), Truncation(0.1, 0, 1.0)]
    core = torch.stack([weights_of(kind, 900) for kind in ("spread", "peaked", "ties", "flat")])
    expected = core.clone()
    truncate(expected, UNIT, cuts)
    wide = torch.zeros(4, size)
    wide[:, :900] = core
    truncate(wide, UNIT, cuts)
    assert torch.equal(wide[:, :900], expected)
    assert not wide[:, 900:].any()


@pytest.mark.parametrize("size", [100, 3000])
def test_a_row_of_nan_stays_one_and_disturbs_no_other(size: int) -> None:
    weights = torch.stack([weights_of("spread", size)] * 3)
    weights[1] = torch.nan
    cuts = [Truncation(0.01, 0, 0.5), Truncation(0.5, 7, 0.5), Truncation(0.0, 9, 0.9)]
    expected = weights[[0, 2]].clone()
    truncate(expected, UNIT, [cuts[0], cuts[2]])
    truncate(weights, UNIT, cuts)
    assert torch.equal(weights[[0, 2]], expected)
    assert weights[1].isnan().any()


def test_a_floor_is_inclusive() -> None:
    """min_p 0.5 keeps a token exactly half as likely as the most likely, in both ways of cutting."""
    for size in (10, 3000):
        weights = torch.zeros(1, size)
        weights[0, :4] = torch.tensor([UNIT, UNIT / 2, float(np.nextafter(np.float32(UNIT / 2), np.float32(0))), 1.0])
        truncate(weights, UNIT, [Truncation(0.5, 0, 1.0)])
        assert weights[0].nonzero()[:, 0].tolist() == [0, 1]
