"""Calls over real sockets to the real engine, beside the same engine in this process."""

import math
from typing import Any

import psutil
import pytest

from lepton.v1.generation_pb2 import Choice, FinishReason
from lepton.v1.scoring_pb2 import ScoreResponse
from lepton_engine import LeptonEngine, SamplingParams
from lepton_service.client import InvalidArgumentError, LeptonClient
from tests.service.e2e.serving import Serving

EOS = 256
PROMPT = "hello there, hello there"
STOP, LENGTH = FinishReason.FINISH_REASON_STOP, FinishReason.FINISH_REASON_LENGTH


def one(client: LeptonClient, prompt: Any = PROMPT, **options: Any) -> Choice:
    return client.complete(prompt, **options).choices[0]


def test_a_stream_is_what_the_engine_gives_in_process(client: LeptonClient, local: LeptonEngine) -> None:
    with client.generate("hello there", max_tokens=40, temperature=0.0, logprobs=2) as stream:
        events = list(stream)
    ids = [token for event in events for token in event.delta.token_ids]
    (expected,) = local.generate("hello there", SamplingParams(max_tokens=40, temperature=0.0, logprobs=2))
    assert ids == expected.outputs[0].token_ids
    assert "".join(event.delta.text for event in events) == expected.outputs[0].text
    rows = [value for event in events for value in event.delta.logprobs.logprobs]
    assert expected.outputs[0].logprobs is not None
    wanted = [row[token].logprob for token, row in zip(ids, expected.outputs[0].logprobs, strict=True)]
    assert rows == pytest.approx(wanted, abs=1e-4)
    assert events[0].started.prompt_tokens == 11


SAMPLING: list[dict[str, Any]] = [
    {"temperature": 0.3},
    {"temperature": 3.0},
    {"top_k": 3},
    {"top_p": 0.2},
    {"min_p": 0.5},
    {"seed": 12},
    {"presence_penalty": 2.0},
    {"frequency_penalty": 2.0},
    {"repetition_penalty": 3.0},
    {"logit_bias": {65: 30.0, 66: 29.0}},
    {"allowed_token_ids": [65, 66, 67, 68]},
    {"bad_words": [chr(byte) for byte in range(33, 100)]},
]


@pytest.mark.parametrize("options", SAMPLING, ids=[", ".join(options) for options in SAMPLING])
def test_every_sampling_field_does_what_it_does_in_process(
    client: LeptonClient, local: LeptonEngine, options: dict[str, Any]
) -> None:
    base: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 11, "max_tokens": 40}
    given = {**base, "ignore_eos": True, **options}
    (expected,) = local.generate(PROMPT, SamplingParams(**given))
    (plain,) = local.generate(PROMPT, SamplingParams(**base, ignore_eos=True))
    found = one(client, **given)
    assert list(found.token_ids) == expected.outputs[0].token_ids
    assert found.text == expected.outputs[0].text
    assert list(found.token_ids) != plain.outputs[0].token_ids, "the field has had no effect"


def test_what_is_left_out_is_the_checkpoints_default(client: LeptonClient, local: LeptonEngine) -> None:
    model = client.get_model()
    found = {field.name: value for field, value in model.default_sampling.ListFields()}
    assert found == {"temperature": 0.9, "top_k": 50, "top_p": 0.95}
    assert isinstance(found["top_k"], int)
    params = SamplingParams(temperature=0.9, top_k=50, top_p=0.95, seed=3, max_tokens=40, ignore_eos=True)
    (expected,) = local.generate(PROMPT, params)
    assert list(one(client, seed=3, max_tokens=40, ignore_eos=True).token_ids) == expected.outputs[0].token_ids


def test_choices_are_drawn_apart_and_together_are_the_engines(client: LeptonClient, local: LeptonEngine) -> None:
    answer = client.complete(PROMPT, n=4, seed=5, max_tokens=20, ignore_eos=True)
    texts = [list(choice.token_ids) for choice in answer.choices]
    assert len({tuple(ids) for ids in texts}) == 4
    assert answer.usage.generated_tokens == 80
    params = SamplingParams(**local.model_info.default_sampling, n=4, seed=5, max_tokens=20, ignore_eos=True)  # type: ignore[arg-type]
    (expected,) = local.generate(PROMPT, params)
    assert texts == [output.token_ids for output in expected.outputs]
    assert client.stats().kv_blocks_referenced == 0


def test_seeds_repeat_and_are_reported(client: LeptonClient) -> None:
    first = client.complete("hello", max_tokens=20)
    again = client.complete("hello", max_tokens=20, seed=first.started.seed)
    assert list(first.choices[0].token_ids) == list(again.choices[0].token_ids)


def test_the_end_of_sequence_is_a_stop_of_no_name_unless_ignored(client: LeptonClient) -> None:
    eager: dict[str, Any] = {"logit_bias": {EOS: 100.0}, "max_tokens": 8}
    ended = one(client, **eager)
    assert (list(ended.token_ids), ended.text, ended.finished.reason) == ([EOS], "", STOP)
    assert ended.finished.WhichOneof("matched_stop") is None
    ignored = one(client, **eager, ignore_eos=True)
    assert (list(ignored.token_ids), ignored.finished.reason) == ([EOS] * 8, LENGTH)
    assert one(client, **eager, ignore_eos=True, skip_special_tokens=False).text == "<|end|>" * 8
    held = one(client, **eager, min_tokens=5)
    assert len(held.token_ids) == 6
    assert EOS not in held.token_ids[:5]


def test_stop_tokens_are_reported_and_kept_on_demand(client: LeptonClient) -> None:
    letters: dict[str, Any] = {"allowed_token_ids": [64, 65, 66], "seed": 1, "temperature": 1.0, "max_tokens": 60}
    free = one(client, **letters)
    assert free.finished.reason == LENGTH
    end = list(free.token_ids).index(65) + 1
    for included in (False, True):
        found = one(client, **letters, stop_token_ids=[65], include_stop_in_output=included)
        assert (found.finished.reason, found.finished.stop_token_id) == (STOP, 65)
        assert list(found.token_ids) == list(free.token_ids[:end])
        assert found.text == free.text[: end if included else end - 1]


def test_stop_strings_across_tokens_end_the_text_before_them_or_behind(client: LeptonClient) -> None:
    letters: dict[str, Any] = {"allowed_token_ids": [64, 65, 66], "seed": 1, "temperature": 1.0, "max_tokens": 60}
    free = one(client, **letters).text
    assert set(free) <= set("abc")
    stop = free[20:24]
    at = free.index(stop)
    for included in (False, True):
        options = {**letters, "stop": ["nothing like it", stop], "include_stop_in_output": included}
        streamed = "".join(client.generate(PROMPT, **options).texts())
        found = one(client, **options)
        assert found.text == streamed == free[: at + len(stop) * included]
        assert (found.finished.reason, found.finished.stop_string) == (STOP, stop)
        assert found.finished.usage.generated_tokens == at + len(stop)


def test_logprobs_of_output_and_prompt(client: LeptonClient, local: LeptonEngine) -> None:
    answer = client.complete("hello", max_tokens=6, temperature=0.0, logprobs=3, prompt_logprobs=2)
    (expected,) = local.generate("hello", SamplingParams(max_tokens=6, temperature=0.0, logprobs=3, prompt_logprobs=2))
    scored, packed = answer.prompt_logprobs, answer.choices[0].logprobs
    assert (scored.first_position, len(scored.logprobs.logprobs), scored.logprobs.top_per_token) == (1, 4, 2)
    assert expected.prompt_logprobs is not None
    for i, (token, row) in enumerate(zip(expected.prompt_token_ids, expected.prompt_logprobs, strict=True)):
        assert (row is None) == (i == 0)
        if row is not None:
            assert scored.logprobs.logprobs[i - 1] == pytest.approx(row[token].logprob, abs=1e-4)
            assert scored.logprobs.ranks[i - 1] == row[token].rank
    assert (len(packed.logprobs), packed.top_per_token, len(packed.top_token_ids)) == (6, 3, 18)
    assert list(packed.ranks) == [1] * 6
    assert list(packed.top_token_ids[::3]) == list(answer.choices[0].token_ids), "greedy takes the likeliest"


def test_a_time_limit_is_a_partial_success(client: LeptonClient) -> None:
    answer = client.complete("hello", ignore_eos=True, time_limit=0.05)
    assert answer.choices[0].finished.reason in (
        FinishReason.FINISH_REASON_TIME_LIMIT,
        LENGTH,  # a machine that makes 2,000 tokens in that time
    )


def test_a_chat_is_answered(client: LeptonClient) -> None:
    rendered = client.apply_chat_template([{"role": "user", "content": "hi"}])
    assert rendered.text == "<user>hi\n<assistant>"
    answer = client.complete([{"role": "user", "content": "hi"}], max_tokens=3, return_prompt_token_ids=True)
    assert list(answer.started.prompt_token_ids) == list(rendered.token_ids)


def test_scores_are_those_of_the_engine(client: LeptonClient, local: LeptonEngine) -> None:
    text = "a text of some length that is scored, " * 8
    (expected,) = local.score(text, top=2)
    found = client.score(text, top_logprobs=2)
    assert list(found.token_ids) == expected.prompt_token_ids
    known = [value for value in expected.token_logprobs if value is not None]
    check_scores(found, known)
    assert expected.perplexity is not None
    assert found.perplexity == pytest.approx(expected.perplexity, rel=1e-4)
    for i, row in enumerate(expected.top_logprobs[1:]):
        assert row is not None
        best = sorted(row.items(), key=lambda item: item[1].rank)[:2]
        assert list(found.logprobs.top_token_ids[2 * i : 2 * i + 2]) == [token for token, _ in best]
    check_scores(client.score(text, context_tokens=100), known[99:])
    assert found.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert found.timings.HasField("total_time")
    assert client.score(text).usage.cached_tokens == 0


def check_scores(found: ScoreResponse, expected: list[float]) -> None:
    assert list(found.logprobs.logprobs) == pytest.approx(expected, abs=1e-4)
    assert found.total_logprob == pytest.approx(sum(expected), abs=1e-2)
    assert found.perplexity == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-4)


def test_a_text_as_long_as_the_context_is_scored(client: LeptonClient) -> None:
    found = client.score([7] * 2048)
    assert len(found.logprobs.logprobs) == 2047
    with pytest.raises(InvalidArgumentError) as caught:
        client.score([7] * 2049)
    assert caught.value.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert client.stats().kv_blocks_referenced == 0


def test_bad_requests_name_the_field(client: LeptonClient) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"max_tokens": 0}, "stop.max_tokens"),
        ({"top_p": 0.0}, "sampling.top_p"),
        ({"allowed_token_ids": [EOS], "min_tokens": 1}, "sampling.allowed_token_ids"),
        ({"allowed_token_ids": [64], "bad_words": ["a"]}, "sampling.allowed_token_ids"),
        ({"logit_bias": {257: 1.0}}, "sampling.logit_bias[257]"),
    ]
    for options, field_path in cases:
        with pytest.raises(InvalidArgumentError) as caught:
            client.complete("hello", **options)
        assert caught.value.violations[0].field == field_path
    with pytest.raises(InvalidArgumentError) as caught:
        client.complete([1] * 2048)
    assert caught.value.reason == "CONTEXT_LENGTH_EXCEEDED"


def test_the_front_end_imports_no_torch(served: Serving) -> None:
    front = psutil.Process(served.process.pid)
    assert not [entry.path for entry in front.memory_maps() if "libtorch" in entry.path]
    assert served.engines()
