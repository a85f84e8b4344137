"""Masks on logits: exactly the allowed tokens are left, and what is drawn from them is their distribution."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lepton_engine.runtime.grammar_masks import AllowedTokens
from lepton_engine.runtime.row import SampleRow
from lepton_engine.runtime.sampler import Sampler
from lepton_engine.sampling_params import SamplingParams

SIZE = 77
CPU = torch.device("cpu")


def bits_of(allowed: np.ndarray) -> np.ndarray:
    """Masks as llguidance writes them: bit i of a row is token i."""
    words = -(-allowed.shape[1] // 32)
    padded = np.zeros((len(allowed), 32 * words), dtype=np.uint8)
    padded[:, : allowed.shape[1]] = allowed
    return np.packbits(padded, axis=1, bitorder="little").view(np.int32)


def rows_of(count: int, **fields: Any) -> list[SampleRow]:
    return [SampleRow(SamplingParams(**fields), seed, 0, seed % 8, (1,)) for seed in range(count)]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [2]])
@pytest.mark.parametrize("tokens", [SIZE, SIZE + 20, SIZE - 20])
@pytest.mark.parametrize("path", ["host", "device"])
def test_only_the_allowed_stay(rows: list[int], tokens: int, path: str) -> None:
    """A tokenizer may have more tokens than the logits have columns, or fewer: those are not allowed."""
    random = np.random.default_rng(1)
    allowed = random.random((len(rows), tokens)) < 0.4
    logits = torch.randn(4, SIZE)
    expected = logits.clone()
    for row, own in zip(rows, allowed, strict=True):
        for token in range(SIZE):
            if token >= tokens or not own[token]:
                expected[row, token] = -math.inf
    masks = AllowedTokens(rows, bits_of(allowed))
    if path == "host":
        masks.apply(logits)
    else:
        masks.apply_on_device(logits, chunk_tokens=SIZE)
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("fields", [{}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 0.6, "min_p": 0.05}])
def test_draws_are_those_of_the_masked_logits(fields: dict[str, Any]) -> None:
    """The same random numbers on logits without the other tokens give the same: truncation sees the rest only."""
    random = np.random.default_rng(2)
    allowed = random.random((64, SIZE)) < 0.3
    allowed[:, 5] = True
    logits = torch.randn(64, SIZE)
    by_hand = torch.where(torch.from_numpy(allowed), logits, -torch.inf)
    rows = rows_of(64, **fields)
    sampler = Sampler(SIZE, 8, CPU)
    found = sampler.sample(logits.clone(), rows, AllowedTokens(list(range(64)), bits_of(allowed)))
    assert torch.equal(found.token_ids, sampler.sample(by_hand, rows).token_ids)
    assert not found.invalid.any()


def test_draws_follow_the_renormalised_distribution() -> None:
    """Chi-square over 20,000 draws; a p-value below 1e-7 fails."""
    count, size = 20_000, 12
    allowed = np.zeros((1, size), dtype=bool)
    kept = [0, 3, 4, 7, 11]
    allowed[0, kept] = True
    logits = torch.randn(1, size, generator=torch.Generator().manual_seed(3))
    sampler = Sampler(size, 8, CPU)
    masks = AllowedTokens(list(range(count)), np.repeat(bits_of(allowed), count, axis=0))
    tokens = sampler.sample(logits.repeat(count, 1), rows_of(count), masks).token_ids
    weights = torch.softmax(logits[0, kept].double(), dim=0)
    seen = torch.bincount(tokens, minlength=size).double()
    assert seen.sum() == seen[kept].sum() == count
    statistic = float(((seen[kept] - count * weights) ** 2 / (count * weights)).sum())
    assert statistic < 38.2, "4 degrees of freedom"


def test_a_row_that_allows_nothing_is_invalid_and_nan_stays_seen() -> None:
    allowed = np.zeros((2, SIZE), dtype=bool)
    allowed[1, 3] = True
    logits = torch.randn(3, SIZE)
    logits[1, 9] = math.nan
    found = Sampler(SIZE, 8, CPU).sample(logits, rows_of(3), AllowedTokens([0, 1], bits_of(allowed)))
    assert found.invalid.tolist() == [True, True, False]


def test_log_probabilities_are_of_the_allowed() -> None:
    allowed = np.zeros((1, SIZE), dtype=bool)
    allowed[0, [2, 9]] = True
    logits = torch.randn(2, SIZE)
    expected = torch.log_softmax(logits[0, [2, 9]], dim=0)
    plain = torch.log_softmax(logits[1], dim=0)
    rows = rows_of(2, logprobs=2, temperature=0.0, logit_bias={2: 3.0})
    found = Sampler(SIZE, 8, CPU).sample(logits, rows, AllowedTokens([0], bits_of(allowed)))
    host = found.to_host()
    first, second = host.entry(0, 2), host.entry(1, 2)
    assert first is not None
    assert second is not None
    assert dict(zip(first.top_ids, first.top_logprobs, strict=True)) == pytest.approx(
        {2: float(expected[0]), 9: float(expected[1])}, abs=1e-5
    ), "before logit_bias, as without a grammar"
    assert second.top_logprobs[0] == pytest.approx(float(plain.max()), abs=1e-5)
