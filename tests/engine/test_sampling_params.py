import math
from typing import Any

import msgspec
import pytest

from lepton_engine.errors import InvalidRequestError
from lepton_engine.sampling_params import (
    MAX_BAD_WORDS,
    MAX_LOGIT_BIAS,
    MAX_LOGPROBS,
    MAX_N,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKEN_IDS,
    MAX_TEXT_LENGTH,
    OutputKind,
    SamplingParams,
)

NOT_NUMBERS = [math.nan, math.inf, -math.inf, "1", None, True]
NOT_INTEGERS = [1.5, "1", True, math.nan]
NOT_TOKEN_IDS: list[Any] = ["12", 5, [-1], [1.0], [True], ["1"], [2**31], {1}]
NOT_TEXTS: list[Any] = [[""], [1], 7, {"a"}, [None], ["a" * (MAX_TEXT_LENGTH + 1)], ["\ud800"]]

BAD: list[tuple[str, Any]] = [
    *(("temperature", value) for value in [*NOT_NUMBERS, -0.1, 1e7]),
    *(("top_p", value) for value in [*NOT_NUMBERS, 0, 0.0, -1, 1.01, 2]),
    *(("min_p", value) for value in [*NOT_NUMBERS, -0.1, 1.5]),
    *(("presence_penalty", value) for value in [*NOT_NUMBERS, -2.1, 2.1]),
    *(("frequency_penalty", value) for value in [*NOT_NUMBERS, -2.1, 2.1]),
    *(("repetition_penalty", value) for value in [*NOT_NUMBERS, 0, -1, 1e7]),
    *(("n", value) for value in [*NOT_INTEGERS, None, 0, -1, MAX_N + 1]),
    *(("top_k", value) for value in [*NOT_INTEGERS, None, -2, 2**31]),
    *(("seed", value) for value in [*NOT_INTEGERS, -1, 2**63]),
    *(("max_tokens", value) for value in [*NOT_INTEGERS, 0, -1, 2**31]),
    *(("min_tokens", value) for value in [*NOT_INTEGERS, None, -1, 2**31]),
    *(("logprobs", value) for value in [*NOT_INTEGERS, -1, MAX_LOGPROBS + 1]),
    *(("prompt_logprobs", value) for value in [*NOT_INTEGERS, -1, MAX_LOGPROBS + 1]),
    *(("logit_bias", value) for value in [[1], {-1: 0.0}, {"1": 0.0}, {True: 1.0}, {1: 101}, {1: math.nan}]),
    *(("logit_bias", value) for value in [{1: "x"}, {1: None}, {2**31: 1.0}, dict.fromkeys(range(1025), 0.0)]),
    *(("allowed_token_ids", value) for value in [*NOT_TOKEN_IDS, []]),
    *(("stop_token_ids", value) for value in [*NOT_TOKEN_IDS, list(range(MAX_STOP_TOKEN_IDS + 1))]),
    *(("bad_words", value) for value in [*NOT_TEXTS, "text", ["a"] * (MAX_BAD_WORDS + 1)]),
    *(("stop", value) for value in [*NOT_TEXTS, "", ["a"] * (MAX_STOP_STRINGS + 1)]),
    *(("include_stop_str_in_output", value) for value in [None, 1, "yes"]),
    *(("ignore_eos", value) for value in [None, 0, "no"]),
    *(("detokenize", value) for value in [None, 1]),
    *(("skip_special_tokens", value) for value in [None, 1]),
    *(("output_kind", value) for value in [None, "delta", 1]),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:40])
def test_a_bad_value_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplingParams(**{name: value})
    assert caught.value.field == f"sampling_params.{name}"
    assert str(caught.value).startswith(f"sampling_params.{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("top_p", 1),
        ("top_p", 1e-6),
        ("top_k", -1),
        ("top_k", 2**31 - 1),
        ("min_p", 1),
        ("n", MAX_N),
        ("seed", 0),
        ("seed", 2**63 - 1),
        ("max_tokens", None),
        ("max_tokens", 1),
        ("logprobs", 0),
        ("logprobs", MAX_LOGPROBS),
        ("logit_bias", {}),
        ("logit_bias", dict.fromkeys(range(MAX_LOGIT_BIAS), -100)),
        ("allowed_token_ids", list(range(200_000))),
        ("stop", ["a" * MAX_TEXT_LENGTH]),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_ends_of_a_range_belong_to_it(name: str, value: Any) -> None:
    SamplingParams(**{name: value})


def test_contradictory_bounds() -> None:
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.min_tokens: 9 exceeds max_tokens, which is 8"):
        SamplingParams(min_tokens=9, max_tokens=8)
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.stop: .*detokenize=True"):
        SamplingParams(stop=["x"], detokenize=False)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="beam_width"):
        SamplingParams(beam_width=4)  # type: ignore[call-arg]


def test_lists_become_tuples_and_a_lone_stop_text_a_tuple_of_one() -> None:
    biases = {7: 1.5}
    params = SamplingParams(
        stop="END", stop_token_ids=[1, 2], bad_words=["x"], allowed_token_ids=[3], logit_bias=biases
    )
    assert params.stop == ("END",)
    assert params.stop_token_ids == (1, 2)
    assert params.bad_words == ("x",)
    assert params.allowed_token_ids == (3,)
    biases[8] = 99.0
    assert params.logit_bias == {7: 1.5}


def test_none_is_no_entries_where_vllm_has_it_so() -> None:
    params = SamplingParams(stop=None, stop_token_ids=None, bad_words=None)  # type: ignore[arg-type]
    assert (params.stop, params.stop_token_ids, params.bad_words) == ((), (), ())


def test_frozen() -> None:
    params = SamplingParams()
    with pytest.raises(AttributeError):
        params.temperature = 0.5  # type: ignore[misc]


def test_comes_back_from_msgpack_as_it_was() -> None:
    params = SamplingParams(
        n=3,
        temperature=1,
        top_p=0.5,
        top_k=7,
        min_p=0.1,
        seed=2**63 - 1,
        presence_penalty=-1,
        frequency_penalty=0.5,
        repetition_penalty=1.1,
        logit_bias={3: -100, 8: 0.25},
        allowed_token_ids=[3, 8],
        bad_words=["坏"],
        stop=["\n", "停"],
        stop_token_ids=[5],
        include_stop_str_in_output=True,
        ignore_eos=True,
        max_tokens=None,
        min_tokens=2,
        logprobs=4,
        prompt_logprobs=0,
        skip_special_tokens=False,
        output_kind=OutputKind.DELTA,
    )
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=SamplingParams)
    assert back == params
    assert isinstance(back.stop, tuple)
    assert isinstance(back.allowed_token_ids, tuple)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(SamplingParams()), type=SamplingParams) == SamplingParams()


def test_bad_values_are_refused_on_arrival_too() -> None:
    with pytest.raises(msgspec.ValidationError, match="top_p"):
        msgspec.convert({"top_p": 2.0}, SamplingParams)
