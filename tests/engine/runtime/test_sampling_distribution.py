"""Sampled tokens against exact probabilities. Seeds are fixed; p-values below 1e-7 fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

COUNT = 10_000
OUTPUT = (5, 5, 5, 9, 11)
PROMPT = (1, 2, 3, 5, 7)

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cold": {"temperature": 0.4},
    "hot": {"temperature": 1.9},
    "top_k": {"top_k": 20},
    "top_k of one": {"top_k": 1},
    "top_k beyond the short list": {"top_k": 200},
    "top_k of all": {"top_k": 10_000},
    "top_k of -1": {"top_k": -1},
    "top_p": {"top_p": 0.8},
    "top_p of little": {"top_p": 0.01},
    "top_p of nearly all": {"top_p": 0.999},
    "min_p": {"min_p": 0.1},
    "min_p of one": {"min_p": 1.0},
    "top_k and top_p": {"top_k": 30, "top_p": 0.7},
    "wide top_k and top_p": {"top_k": 150, "top_p": 0.9},
    "all cuts": {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
    "all wide cuts": {"temperature": 1.3, "top_k": 250, "top_p": 0.95, "min_p": 0.001},
    "min_p and top_p": {"min_p": 0.05, "top_p": 0.75},
    "repetition": {"repetition_penalty": 1.7, "prompt": PROMPT, "output": OUTPUT},
    "presence": {"presence_penalty": 1.5, "prompt": PROMPT, "output": OUTPUT},
    "frequency": {"frequency_penalty": -0.8, "prompt": PROMPT, "output": OUTPUT},
    "all penalties": {
        "repetition_penalty": 0.8,
        "presence_penalty": -1.0,
        "frequency_penalty": 0.5,
        "prompt": PROMPT,
        "output": OUTPUT,
        "top_p": 0.9,
    },
    "logit_bias": {"logit_bias": {0: 4.0, 17: -100.0, 299: 5.5}},
    "allowed": {"allowed_token_ids": (3, 50, 130, 255, 299)},
    "bad words": {"bad": ((8,), (9, 11, 30), (9, 12, 40), (1, 2)), "prompt": PROMPT, "output": OUTPUT},
    "min_tokens": {"min_tokens": COUNT, "max_tokens": COUNT, "stop": (0, 1, 2, 200)},
    "everything": {
        "temperature": 0.9,
        "top_k": 60,
        "top_p": 0.95,
        "min_p": 0.01,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.4,
        "frequency_penalty": 0.3,
        "logit_bias": {4: 3.0, 5: 2.0},
        "bad": ((6,),),
        "min_tokens": COUNT,
        "max_tokens": COUNT,
        "stop": (10,),
        "prompt": PROMPT,
        "output": OUTPUT,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_exact_probabilities(
    sampling: Any, make_logits: Callable[..., torch.Tensor], name: str
) -> None:
    logits = make_logits(300)
    tokens = sampling.draws(logits, COUNT, **CASES[name])
    probs = sampling.probabilities(logits.numpy(), sampling.row(**CASES[name]))
    assert sampling.p_value(tokens, probs) > 1e-7


@pytest.mark.parametrize(
    ("drawn", "claimed"),
    [
        ({"temperature": 1.0}, {"temperature": 1.1}),
        ({"top_p": 0.8}, {"top_p": 0.85}),
        ({"top_k": 21}, {"top_k": 20}),
        ({"min_p": 0.02}, {"min_p": 0.3}),
        ({"top_k": 30, "top_p": 0.7}, {"top_p": 0.7}),
        ({"logit_bias": {4: 6.0}}, {}),
    ],
)
def test_the_test_tells_neighbouring_distributions_apart(
    sampling: Any, make_logits: Callable[..., torch.Tensor], drawn: dict[str, Any], claimed: dict[str, Any]
) -> None:
    logits = make_logits(300)
    tokens = sampling.draws(logits, COUNT, **drawn)
    assert sampling.p_value(tokens, sampling.probabilities(logits.numpy(), sampling.row(**claimed))) < 1e-7


@pytest.mark.parametrize("size", [1, 2, 31, 129])
@pytest.mark.parametrize("cut", [{}, {"top_k": 2}, {"top_p": 0.6}])
def test_small_vocabularies(
    sampling: Any, make_logits: Callable[..., torch.Tensor], size: int, cut: dict[str, Any]
) -> None:
    logits = make_logits(size)
    tokens = sampling.draws(logits, 4_000, **cut)
    assert sampling.p_value(tokens, sampling.probabilities(logits.numpy(), sampling.row(**cut))) > 1e-7


def test_many_seeds_at_one_position(sampling: Any, make_logits: Callable[..., torch.Tensor]) -> None:
    logits = make_logits(50)
    rows = [sampling.row(seed=seed, position=3) for seed in range(COUNT)]
    tokens = sampling.sample(logits.expand(COUNT, -1).contiguous(), rows).token_ids.numpy()
    assert sampling.p_value(tokens, sampling.probabilities(logits.numpy(), sampling.row())) > 1e-7


def test_a_large_flat_vocabulary(sampling: Any) -> None:
    """Rounding to integer weights must not favour any part of it: tokens in 64 bins."""
    size = 49_152
    tokens = sampling.draws(torch.zeros(size), 2_000)
    flat = torch.full((64,), 1 / 64, dtype=torch.float64).numpy()
    assert sampling.p_value(tokens * 64 // size, flat) > 1e-7
