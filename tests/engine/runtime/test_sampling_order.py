"""The order of steps that SamplingParams documents, by cases in which any other order gives other tokens.

And random combinations of all parameters, against the same steps written out plainly.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lepton_engine.runtime.masks import apply_masks

DRAWS = 400


def support(sampling: Any, probs: list[float], **case: Any) -> set[int]:
    """The tokens that are drawn from these probabilities."""
    logits = torch.tensor(probs, dtype=torch.float64).log().float()
    return set(sampling.draws(logits, DRAWS, **case).tolist())


def test_biases_come_before_penalties(sampling: Any) -> None:
    """(1 + 3) / 4 = 1 is less than 2; 1 / 4 + 3 would be more."""
    logits = torch.tensor([1.0, 2.0])
    case = {"logit_bias": {0: 3.0}, "repetition_penalty": 4.0, "prompt": (0,), "temperature": 0.0}
    assert sampling.draws(logits, 1, **case).tolist() == [1]


def test_repetition_comes_before_presence_and_frequency(sampling: Any) -> None:
    """3 / 2 - 1 = 0.5 is less than 0.8; (3 - 1) / 2 = 1 would be more."""
    logits = torch.tensor([3.0, 0.8])
    case = {"repetition_penalty": 2.0, "output": (0,), "temperature": 0.0}
    assert sampling.draws(logits, 1, presence_penalty=1.0, **case).tolist() == [1]
    assert sampling.draws(logits, 1, frequency_penalty=1.0, **case).tolist() == [1]
    assert sampling.draws(logits, 1, **case).tolist() == [0]


def test_penalties_come_before_temperature(sampling: Any) -> None:
    """After a penalty of 1, both are equal, whatever the temperature; halved first, they would differ by a nat."""
    logits = torch.tensor([1.0, 0.0])
    for temperature in (0.5, 4.0):
        case = {"presence_penalty": 1.0, "output": (0,), "temperature": temperature}
        tokens = sampling.draws(logits, 4000, **case)
        assert sampling.p_value(tokens, np.array([0.5, 0.5])) > 1e-7


def test_temperature_comes_before_min_p(sampling: Any) -> None:
    """At temperature 2 a ratio of 0.09 has become 0.3."""
    assert support(sampling, [0.9, 0.081, 0.019], temperature=2.0, min_p=0.2) == {0, 1}
    assert support(sampling, [0.9, 0.081, 0.019], temperature=1.0, min_p=0.2) == {0}
    assert support(sampling, [0.5, 0.3, 0.2], temperature=0.25, min_p=0.2) == {0}


def test_temperature_comes_before_top_p(sampling: Any) -> None:
    assert support(sampling, [0.7, 0.2, 0.1], top_p=0.65) == {0}
    assert support(sampling, [0.7, 0.2, 0.1], top_p=0.65, temperature=3.0) == {0, 1}


def test_top_p_is_of_what_min_p_has_left(sampling: Any) -> None:
    """0.4 of 0.7 is reached by the first of the two that stay; 0.5 of all would have needed the second."""
    probs = [0.4, 0.3, 0.1, 0.1, 0.1]
    assert support(sampling, probs, top_p=0.5) == {0, 1}
    assert support(sampling, probs, top_p=0.5, min_p=0.5) == {0}


@pytest.mark.parametrize("size", [5, 2000])
@pytest.mark.parametrize("top_k", [2, 200])
def test_top_p_is_of_what_top_k_has_left(sampling: Any, size: int, top_k: int) -> None:
    """The short list, the sorted and the counted vocabulary alike."""
    probs = [0.4, 0.3, *[0.3 / (size - 2)] * (size - 2)]
    if top_k == 2:
        assert support(sampling, probs, top_p=0.5, top_k=2) == {0}
    assert support(sampling, probs, top_p=0.5) == {0, 1}
    if size > 1000 and top_k == 200:
        # Of 0.73 at most, half is reached by the first token; ties at the border stay, so distinct tails.
        tail = np.linspace(1.5, 0.5, size - 2)
        probs = [0.4, 0.3, *(tail / tail.sum() * 0.3)]
        assert support(sampling, probs, top_p=0.5, top_k=200) == {0}


def test_masked_tokens_count_for_no_cut(sampling: Any) -> None:
    """The most likely token is masked before min_p, top_k and top_p look at what is most likely."""
    probs = [0.9, 0.05, 0.03, 0.02]
    masks: list[dict[str, Any]] = [
        {"allowed_token_ids": (1, 2, 3)},
        {"bad": ((0,),)},
        {"min_tokens": DRAWS, "max_tokens": DRAWS, "stop": (0,)},
    ]
    for mask in masks:
        assert support(sampling, probs, top_k=1, **mask) == {1}
        assert support(sampling, probs, min_p=0.5, **mask) == {1, 2}
        assert support(sampling, probs, top_p=0.6, **mask) == {1, 2}


def test_a_bias_of_minus_100_leaves_a_token_that_has_no_rival(sampling: Any) -> None:
    logits = torch.zeros(1, 4)
    logits[0, 1:] = -math.inf
    sampled = sampling.sample(logits, [sampling.row(logit_bias={0: -100.0})])
    assert not sampled.invalid.any()
    assert sampled.token_ids.tolist() == [0]


def test_biases_are_transformers_sequence_biases_of_one_token(sampling: Any) -> None:
    from transformers import SequenceBiasLogitsProcessor

    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(2))
    biases = {0: 4.5, 7: -100.0, 19: 0.25}
    processor: Any = SequenceBiasLogitsProcessor([[[token], bias] for token, bias in biases.items()])
    theirs = processor(torch.zeros(3, 5, dtype=torch.int64), logits.clone())
    ours = logits.clone()
    apply_masks(ours, [sampling.row(slot=i, logit_bias=biases) for i in range(3)])
    torch.testing.assert_close(ours, theirs)


def random_case(generator: np.random.Generator, size: int, draws: int) -> dict[str, Any]:
    """Some of all parameters, at random; token 0 stays free so that something can be drawn."""

    def maybe(value: Any, default: Any) -> Any:
        return value if generator.random() < 0.4 else default

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(generator.integers(1, size, count).tolist())

    early = generator.random() < 0.4
    return {
        "temperature": float(generator.uniform(0.3, 2.0)),
        "top_k": maybe(int(generator.integers(1, size + 10)), 0),
        "top_p": maybe(float(generator.uniform(0.05, 1.0)), 1.0),
        "min_p": maybe(float(generator.uniform(0.0, 0.3)), 0.0),
        "repetition_penalty": maybe(float(generator.uniform(0.5, 2.0)), 1.0),
        "presence_penalty": maybe(float(generator.uniform(-2, 2)), 0.0),
        "frequency_penalty": maybe(float(generator.uniform(-2, 2)), 0.0),
        "logit_bias": maybe({token: float(generator.uniform(-5, 5)) for token in tokens(5)}, None),
        "allowed_token_ids": maybe((0, *tokens(size // 2)), None),
        "bad": maybe((tokens(1), tokens(2), (5, *tokens(1))), ()),
        "min_tokens": draws if early else 0,
        "max_tokens": draws,
        "stop": tokens(3) if early else (),
        "prompt": tokens(6),
        "output": (*tokens(8), 5),
    }


@pytest.mark.parametrize("seed", range(30))
def test_random_combinations(sampling: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = (12, 90, 1300)[seed % 3]
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 2.5
    case = random_case(generator, size, 1500)
    probs = sampling.probabilities(logits.numpy(), sampling.row(seed=seed, **case))
    assert sampling.p_value(sampling.draws(logits, 1500, seed=seed, **case), probs) > 1e-7
