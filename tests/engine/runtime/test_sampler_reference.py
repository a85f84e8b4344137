"""Steps of the sampler against transformers' logits processors, where they exist, and against plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lepton_engine.runtime.masks import apply_masks
from lepton_engine.runtime.penalties import Penalties
from lepton_engine.runtime.truncation import Truncation, truncate

UNIT = 2.0**36


def logits_of(count: int, size: int, spread: float = 2.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) * spread


def kept_by(logits: torch.Tensor, cut: Truncation) -> torch.Tensor:
    weights = (logits - logits.amax(-1, keepdim=True)).exp().mul(UNIT).floor()
    truncate(weights, UNIT, [cut] * len(logits))
    return weights > 0


def kept_by_theirs(logits: torch.Tensor, *processors: LogitsProcessor) -> torch.Tensor:
    scores = logits.double()
    ids = torch.zeros(len(logits), 1, dtype=torch.int64)
    for processor in processors:
        scores = processor(ids, scores)
    return scores > -torch.inf


def test_repetition_penalty_is_theirs(sampling: Any) -> None:
    logits = logits_of(4, 50)
    prompts = torch.randint(50, (4, 9), generator=torch.Generator().manual_seed(1))
    outputs = torch.randint(50, (4, 6), generator=torch.Generator().manual_seed(2))
    for penalty in (0.5, 1.2, 3.0):
        rows = [
            sampling.row(slot=i, repetition_penalty=penalty, prompt=prompts[i].tolist(), output=outputs[i].tolist())
            for i in range(4)
        ]
        ours = logits.clone()
        Penalties(4).apply(ours, rows)
        make: Any = RepetitionPenaltyLogitsProcessor
        theirs = make(penalty)(torch.cat([prompts, outputs], dim=1), logits.clone())
        torch.testing.assert_close(ours, theirs)


def test_presence_and_frequency_penalties_against_a_plain_loop(sampling: Any) -> None:
    logits = logits_of(5, 40)
    generator = np.random.default_rng(4)
    expected = logits.clone()
    rows = []
    for i in range(5):
        output = generator.integers(0, 40, 20).tolist()
        presence, frequency = generator.uniform(-2, 2, 2).tolist()
        prompt = generator.integers(0, 40, 10).tolist()
        rows.append(
            sampling.row(slot=i, presence_penalty=presence, frequency_penalty=frequency, prompt=prompt, output=output)
        )
        for token in range(40):
            expected[i, token] -= frequency * output.count(token) + presence * (token in output)
    ours = logits.clone()
    Penalties(5).apply(ours, rows)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_only_rows_with_penalties_change(sampling: Any) -> None:
    logits = logits_of(2, 40)
    ours = logits.clone()
    Penalties(2).apply(ours, [sampling.row(output=(3,)), sampling.row(slot=1, presence_penalty=1.0, output=(3,))])
    changed = (ours != logits).nonzero().tolist()
    assert changed == [[1, 3]]


@pytest.mark.parametrize("size", [60, 5000, 49_152])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_cuts_keep_what_theirs_keep(size: int, spread: float) -> None:
    logits = logits_of(3, size, spread)
    theirs: Any
    for top_k in (1, 7, 300, 2000):
        theirs = kept_by_theirs(logits, TopKLogitsWarper(top_k))
        assert torch.equal(kept_by(logits, Truncation(0.0, top_k, 1.0)), theirs)
    for top_p in (0.01, 0.5, 0.9, 0.999):
        theirs = kept_by_theirs(logits, TopPLogitsWarper(top_p))
        ours = kept_by(logits, Truncation(0.0, 0, top_p))
        # Rounding may move the border of a mass by one token, no more.
        assert ((ours != theirs).sum(dim=-1) <= 1).all()
        assert (ours.sum(dim=-1) >= 1).all()
    for min_p in (0.001, 0.1, 0.9):
        theirs = kept_by_theirs(logits, MinPLogitsWarper(min_p))
        assert torch.equal(kept_by(logits, Truncation(min_p, 0, 1.0)), theirs)
    theirs = kept_by_theirs(logits, MinPLogitsWarper(0.01), TopKLogitsWarper(40), TopPLogitsWarper(0.8))
    assert ((kept_by(logits, Truncation(0.01, 40, 0.8)) != theirs).sum(dim=-1) <= 1).all()


def test_tokens_that_tie_at_a_border_are_all_kept() -> None:
    logits = torch.tensor([[3.0, 2.0, 2.0, 2.0, 1.0, 0.0]])
    assert kept_by(logits, Truncation(0.0, 2, 1.0)).tolist() == [[True, True, True, True, False, False]]
    assert kept_by(logits, Truncation(0.0, 4, 1.0)).tolist() == [[True, True, True, True, False, False]]
    first = float(logits.softmax(-1)[0, 0])
    assert kept_by(logits, Truncation(0.0, 0, first - 1e-4)).sum() == 1
    assert kept_by(logits, Truncation(0.0, 0, first + 1e-4)).sum() == 4
    assert kept_by(torch.zeros(1, 100), Truncation(1.0, 3, 0.1)).sum() == 100


def test_rows_are_cut_each_by_its_own() -> None:
    cuts = [Truncation(0.0, 3, 1.0), Truncation(0.0, 0, 1.0), Truncation(0.0, 0, 0.5), Truncation(0.2, 9, 0.9)]
    logits = logits_of(4, 700)
    weights = (logits - logits.amax(-1, keepdim=True)).exp().mul(UNIT).floor()
    truncate(weights, UNIT, cuts)
    for i, cut in enumerate(cuts):
        assert torch.equal(weights[i : i + 1] > 0, kept_by(logits[i : i + 1], cut))


def test_bad_words_are_theirs(sampling: Any) -> None:
    words = [[5], [1, 2], [3, 3, 4], [7, 8, 9, 10], [2, 6]]
    generator = torch.Generator().manual_seed(9)
    for length in (1, 2, 5, 40):
        ids = torch.randint(11, (40, length), generator=generator)
        logits = logits_of(40, 12)
        theirs = NoBadWordsLogitsProcessor([list(word) for word in words])(ids, logits.clone())
        for cut in (0, length // 2, length):  # wherever the output begins
            ours = logits.clone()
            rows = [
                sampling.row(
                    slot=i,
                    bad=tuple(map(tuple, words)),
                    prompt=ids[i, :cut].tolist(),
                    output=ids[i, cut:].tolist(),
                    position=length - cut,
                )
                for i in range(40)
            ]
            apply_masks(ours, rows)
            assert torch.equal(ours, theirs)


def test_min_tokens_are_theirs(sampling: Any) -> None:
    logits = logits_of(1, 20)
    for generated in range(6):
        ours = logits.clone()
        apply_masks(ours, [sampling.row(min_tokens=4, position=generated, stop=(3, 7), output=(1,) * generated)])
        ids = torch.ones(1, 10 + generated, dtype=torch.int64)
        theirs = MinNewTokensLengthLogitsProcessor(10, 4, [3, 7])(ids, logits.clone())
        assert torch.equal(ours, theirs)
