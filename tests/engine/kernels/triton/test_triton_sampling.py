"""Argmax and draws give the very tokens of the sampler's own functions."""

import pytest
import torch

from lepton_engine.kernels.triton import sampling, thresholds
from lepton_engine.kernels.triton.sampling import draw_from_logits
from lepton_engine.runtime import selection, truncation
from lepton_engine.runtime.uniform import uniform

SIZES = [1, 2, 100, 4096, 5000, 9000]


@pytest.mark.parametrize("size", SIZES)
def test_first_argmax(size: int, device: torch.device, generator: torch.Generator) -> None:
    rows = torch.randint(-3, 4, (7, size), generator=generator).float()  # many ties
    rows[2] = -torch.inf
    rows[3, size // 2] = torch.inf
    rows[4, size - 1] = 7.0
    rows = rows.to(device)
    best, tokens = sampling.first_argmax(rows)
    expected, indices = selection.first_argmax(rows.cpu())
    assert torch.equal(best.cpu(), expected)
    assert torch.equal(tokens.cpu(), indices)
    rows[5, size // 3] = torch.nan
    best, tokens = sampling.first_argmax(rows)
    assert best.isnan().tolist() == [False] * 5 + [True, False]
    assert 0 <= int(tokens[5]) < size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
def test_draws_are_the_samplers(
    size: int, temperature: float, device: torch.device, generator: torch.Generator
) -> None:
    count = 24
    logits = (torch.randn(count, size, generator=generator) * 4).to(device)
    logits[3, : size - 1] = -torch.inf
    best = logits.amax(dim=-1)
    unit = 2.0 ** min(40, 53 - size.bit_length())
    scale = torch.full((count,), temperature, device=device)
    numbers = [uniform(seed, 5) for seed in range(count - 2)] + [0.0, 1.0 - 2.0**-53]
    uniforms = torch.tensor(numbers, dtype=torch.float64, device=device)
    weights = (logits - best[:, None]).div_(scale[:, None]).exp_().mul_(unit).floor_()
    expected = selection.draw(weights.cpu(), uniforms.cpu())
    assert torch.equal(sampling.draw(weights, uniforms).cpu(), expected)
    drawn = draw_from_logits(logits, best, scale, uniforms, unit).cpu()
    # exp() may differ in its last place: then a draw at the very border between two tokens may too.
    assert (drawn == expected).sum() >= count - 1


def test_a_draws_distribution(device: torch.device) -> None:
    logits = torch.tensor([0.5, 0.125, 0.25, 0.125]).log().expand(600, 4).contiguous().to(device)
    uniforms = torch.tensor([uniform(9, i) for i in range(600)], dtype=torch.float64, device=device)
    ones = torch.ones(600, device=device)
    drawn = draw_from_logits(logits, logits.amax(-1), ones, uniforms, 2.0**40)
    shares = torch.bincount(drawn, minlength=4).float().cpu() / 600
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.125, 0.25, 0.125]), atol=0.07, rtol=0)


def test_rows_without_a_token_draw_the_first(device: torch.device) -> None:
    logits = torch.full((2, 50), -torch.inf, device=device)
    logits[1, 7] = torch.nan
    best = logits.amax(dim=-1)
    half = torch.full((2,), 0.5, dtype=torch.float64, device=device)
    drawn = draw_from_logits(logits, best, torch.ones(2, device=device), half, 2.0**40)
    assert ((drawn >= 0) & (drawn < 50)).all()


@pytest.mark.parametrize("size", [1, 60, 4096, 9000])
@pytest.mark.parametrize("counted", [False, True])
def test_the_least_weight_kept_is_bisections(
    size: int, counted: bool, device: torch.device, generator: torch.Generator
) -> None:
    unit = 2.0**38
    weights = (torch.rand(6, size, generator=generator) ** 8 * unit).floor()
    weights[0, : size // 2] = weights[0, -1]  # ties
    weights[1] = 0
    weights[torch.arange(6), torch.randint(0, size, (6,), generator=generator)] = unit
    weights = weights.to(device)
    shares = torch.tensor([0.5, 0.9, 1e-9, 1.0, 0.3, 0.99], dtype=torch.float64, device=device)
    counts = torch.tensor([1, 2, max(1, size // 2), size, 5, 40], device=device).clamp_max(size)
    wanted = counts if counted else shares * weights.sum(-1, dtype=torch.float64)
    expected = truncation.by_bisection(weights, wanted, unit, counted=counted)
    assert torch.equal(thresholds.least_weight(weights, wanted, counted=counted), expected)


def test_strided_numbers(device: torch.device, generator: torch.Generator) -> None:
    weights = torch.randint(0, 9, (5, 300), generator=generator).float().to(device)
    numbers = torch.rand(5, 2, generator=generator, dtype=torch.float64).to(device)
    expected = selection.draw(weights.cpu(), numbers[:, 1].cpu())
    assert torch.equal(sampling.draw(weights, numbers[:, 1]).cpu(), expected)
