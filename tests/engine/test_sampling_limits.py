from collections.abc import Callable
from typing import Any

import pytest

from lepton_engine import LeptonEngine
from lepton_engine.errors import InvalidRequestError
from lepton_engine.sampling_limits import validate_params
from lepton_engine.sampling_params import SamplingParams


@pytest.mark.parametrize(
    ("field", "values", "reason"),
    [
        ("logit_bias", {"logit_bias": {99: 1.0, 100: 1.0}}, "token id 100 is outside the vocabulary of 100 tokens"),
        ("allowed_token_ids", {"allowed_token_ids": [0, 5000]}, "token id 5000 is outside"),
        ("stop_token_ids", {"stop_token_ids": [100]}, "token id 100 is outside"),
        ("logprobs", {"logprobs": 101}, "101 exceeds the vocabulary of 100 tokens"),
        ("prompt_logprobs", {"prompt_logprobs": 128}, "128 exceeds the vocabulary of 100 tokens"),
        (
            "allowed_token_ids",
            {"allowed_token_ids": [3, 4], "stop_token_ids": [3, 4, 5], "min_tokens": 2},
            "only stop tokens",
        ),
        ("allowed_token_ids", {"allowed_token_ids": [3], "logit_bias": {3: -100.0}}, "logit_bias bans"),
    ],
)
def test_what_the_vocabulary_does_not_allow_is_refused_by_name(field: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        validate_params(SamplingParams(**values), 100)
    assert caught.value.field == f"sampling_params.{field}"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"logit_bias": {0: 1.0, 99: -100.0}},
        {"allowed_token_ids": list(range(100))},
        {"stop_token_ids": [99]},
        {"logprobs": 100},
        {"allowed_token_ids": [3, 4], "stop_token_ids": [3, 4]},
        {"allowed_token_ids": [3, 4], "stop_token_ids": [3], "min_tokens": 2},
        {"allowed_token_ids": [3, 4], "logit_bias": {3: -100.0}},
    ],
)
def test_what_can_be_sampled_is_let_through(values: dict[str, Any]) -> None:
    validate_params(SamplingParams(**values), 100)


def test_end_of_sequence_counts_as_a_stop_token() -> None:
    params = SamplingParams(allowed_token_ids=[2], min_tokens=1)
    validate_params(params, 100)
    with pytest.raises(InvalidRequestError, match="only stop tokens"):
        validate_params(params, 100, stop_token_ids=[2])


def test_tokens_that_are_bad_words_are_never_sampled() -> None:
    params = SamplingParams(allowed_token_ids=[2, 3], min_tokens=1)
    validate_params(params, 100, bad_tokens=[2])
    with pytest.raises(InvalidRequestError, match="bad_words bans"):
        validate_params(params, 100, bad_tokens=[2, 3])
    with pytest.raises(InvalidRequestError, match="only stop tokens"):
        validate_params(params, 100, stop_token_ids=[3], bad_tokens=[2])


def test_tokens_banned_in_different_ways_add_up() -> None:
    params = SamplingParams(allowed_token_ids=[2, 3, 4], logit_bias={2: -100.0}, min_tokens=1)
    validate_params(params, 100, stop_token_ids=[3])
    with pytest.raises(InvalidRequestError, match="logit_bias bans with -100, and stop tokens"):
        validate_params(params, 100, stop_token_ids=[3, 4])
    with pytest.raises(InvalidRequestError, match="logit_bias bans with -100, and stop tokens"):
        validate_params(params, 100, stop_token_ids=[3], bad_tokens=[4])


@pytest.mark.parametrize(
    ("field", "values", "reason"),
    [
        ("stop", {"stop": ["x"] * 65}, "has 65 entries, at most 64"),
        ("stop_token_ids", {"stop_token_ids": list(range(257))}, "has 257 entries, at most 256"),
        ("min_tokens", {"min_tokens": 3, "max_tokens": 2}, "3 exceeds max_tokens, which is 2"),
        ("n", {"n": 65}, "65 is out of range, allowed is 1 to 64"),
        ("allowed_token_ids", {"allowed_token_ids": []}, "is empty"),
        ("logit_bias", {"logit_bias": {0: -100.5}}, "allowed is -100 to 100"),
    ],
)
def test_contradictions_are_refused_whatever_the_model(field: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        SamplingParams(**values)
    assert caught.value.field == f"sampling_params.{field}"


def test_the_front_door_counts_the_models_end_of_sequence(engine_over: Callable[..., LeptonEngine]) -> None:
    """256 ends a sequence of the tiny model, so min_tokens forbids it unless it is ignored."""
    engine = engine_over()
    with pytest.raises(InvalidRequestError, match="only stop tokens"):
        engine.generate([[1]], SamplingParams(allowed_token_ids=[256], min_tokens=1))
    ignoring = SamplingParams(allowed_token_ids=[256], min_tokens=1, max_tokens=2, ignore_eos=True)
    assert engine.generate([[1]], ignoring)[0].outputs[0].token_ids == [256, 256]
    token = engine.tokenize("a")
    with pytest.raises(InvalidRequestError, match="bad_words bans"):
        engine.generate([[1]], SamplingParams(allowed_token_ids=token, bad_words=["a"]))


def test_a_bias_of_minus_100_forbids_nothing_by_itself(engine_over: Callable[..., LeptonEngine]) -> None:
    """It is added like any other, so where every token has it the order is as before."""
    engine = engine_over()
    greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    biased = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logit_bias=dict.fromkeys(range(257), -100.0))
    assert engine.generate([[1]], biased)[0].outputs[0].token_ids == (
        engine.generate([[1]], greedy)[0].outputs[0].token_ids
    )
