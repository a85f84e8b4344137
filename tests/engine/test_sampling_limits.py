from typing import Any

import pytest

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
