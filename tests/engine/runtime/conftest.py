"""The sampler's distribution, written out plainly, and how samples are compared with it.

Rewritten from what test_sampling_distribution.py asks of it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2

from lepton_engine.runtime.sampler import SampledTokens, Sampler, SampleRow
from lepton_engine.sampling_params import SamplingParams


class Sampling:
    """Draws by the sampler and the exact probabilities to hold them against."""

    @staticmethod
    def row(
        *,
        seed: int = 42,
        position: int = 0,
        slot: int = 0,
        prompt: Sequence[int] = (),
        output: Sequence[int] = (),
        bad: Sequence[tuple[int, ...]] = (),
        stop: Sequence[int] = (),
        **fields: Any,
    ) -> SampleRow:
        """A row; further keywords are fields of SamplingParams."""
        return SampleRow(SamplingParams(**fields), seed, position, slot, prompt, output, stop, bad)

    @staticmethod
    def sample(logits: torch.Tensor, rows: Sequence[SampleRow]) -> SampledTokens:
        """One call of a fresh sampler."""
        slots = max((row.slot for row in rows), default=0) + 1
        return Sampler(logits.shape[1], slots, logits.device).sample(logits, rows)

    def draws(self, logits: torch.Tensor, count: int, **case: Any) -> NDArray[np.int64]:
        """The tokens at the first `count` positions of one sequence, from the same logits [V]."""
        rows = [self.row(position=position, **case) for position in range(count)]
        sampled = self.sample(logits.repeat(count, 1), rows)
        assert not sampled.invalid.any()
        return sampled.token_ids.numpy()

    @staticmethod
    def probabilities(logits: NDArray[Any], row: SampleRow) -> NDArray[np.float64]:
        """Exact probabilities of each token, in the order of steps that SamplingParams documents; nothing of ours."""
        params = row.params
        text = [*row.prompt_ids, *row.output_ids]
        scores = np.array(logits, dtype=np.float64)
        for token, bias in (params.logit_bias or {}).items():
            scores[token] += bias
        for token in range(len(scores)):
            ahead = [*text, token]
            completes = any(ahead[-len(word) :] == list(word) for word in row.bad_word_ids)
            too_early = token in row.stop_token_ids and row.position < params.min_tokens
            disallowed = params.allowed_token_ids is not None and token not in params.allowed_token_ids
            if completes or too_early or disallowed:
                scores[token] = -np.inf
            if token in text:
                positive = scores[token] > 0
                scores[token] *= 1 / params.repetition_penalty if positive else params.repetition_penalty
            count = list(row.output_ids).count(token)
            scores[token] -= count * params.frequency_penalty + (params.presence_penalty if count else 0)
        weights = np.exp((scores - scores.max()) / params.temperature)
        weights[weights < params.min_p * weights.max()] = 0.0
        if 0 < params.top_k < len(weights):
            weights[weights < np.sort(weights)[-params.top_k]] = 0.0
        if params.top_p < 1:
            ordered = np.sort(weights)[::-1]
            weights[weights < ordered[int((ordered.cumsum() < params.top_p * weights.sum()).sum())]] = 0.0
        result: NDArray[np.float64] = weights / weights.sum()
        return result

    @staticmethod
    def p_value(tokens: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
        """Pearson's chi-square: the probability of so great a deviation; tokens expected fewer than 10 times as one."""
        counts = np.bincount(tokens, minlength=len(probs)).astype(float)
        if counts[probs == 0].any():
            return 0.0
        expected = probs * len(tokens)
        rare = expected < 10
        expected = np.append(expected[~rare], expected[rare].sum())
        counts = np.append(counts[~rare], counts[rare].sum())
        kept = expected > 0
        if kept.sum() == 1:
            return 1.0
        statistic = ((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum()
        return float(chi2.sf(statistic, int(kept.sum()) - 1))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which would fight with other test processes for the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sampling() -> Sampling:
    return Sampling()


@pytest.fixture(scope="session")
def make_logits() -> Callable[[int], torch.Tensor]:
    """Logits [V] of a plausible spread, the same for the same size."""

    def make(size: int) -> torch.Tensor:
        return torch.randn(size, generator=torch.Generator().manual_seed(size)) * 2.0

    return make
