"""The calls that the `openai` client makes, streamed and not, before the fake engine."""

import math
from typing import Any

import openai
import pytest

from lepton_engine.outputs import Logprob

MODEL = "fake-model"
HELLO: Any = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]


async def test_completion(web: Any) -> None:
    answer = await web.openai.completions.create(model=MODEL, prompt="hi", max_tokens=3, seed=7)
    assert answer.object == "text_completion"
    assert answer.model == MODEL
    assert [(choice.text, choice.finish_reason) for choice in answer.choices] == [("abc", "length")]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 3, 6)
    assert answer._request_id in answer.id
    assert web.engine.seen[0].params.seed == 7


async def test_completion_has_openais_default_of_16_tokens(web: Any) -> None:
    answer = await web.openai.completions.create(model=MODEL, prompt="hi")
    assert answer.choices[0].text == "abcdefghijklmnop"


async def test_streamed_completion(web: Any) -> None:
    stream = await web.openai.completions.create(
        model=MODEL, prompt="hi", max_tokens=3, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "abc"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_several_prompts_and_choices_number_on(web: Any) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": ["hi", "there"], "n": 2, "max_tokens": 2}
    answer = await web.openai.completions.create(**asked)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "ab"), (1, "ab"), (2, "ab"), (3, "ab")]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3 + 6, 8)
    stream = await web.openai.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    texts = dict.fromkeys(range(4), "")
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
        usage = chunk.usage
    assert texts == dict.fromkeys(range(4), "ab")
    assert (usage.prompt_tokens, usage.completion_tokens) == (3 + 6, 8)


async def test_prompts_of_token_ids(web: Any) -> None:
    for prompt, expected in (([104, 105], [[104, 105]]), ([[104], [105]], [[104], [105]])):
        web.engine.seen.clear()
        await web.openai.completions.create(model=MODEL, prompt=prompt, max_tokens=1)
        assert sorted(job.prompt for job in web.engine.seen) == expected


async def test_completion_logprobs(web: Any) -> None:
    answer = await web.openai.completions.create(model=MODEL, prompt="hi", max_tokens=2, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs.tokens == ["a", "b"]
    assert logprobs.token_logprobs == [-0.5, -0.5]
    assert logprobs.text_offset == [0, 1]
    assert logprobs.top_logprobs == [{"a": -0.5, "\x01": -2.0}, {"b": -0.5, "\x01": -2.0}]
    stream = await web.openai.completions.create(model=MODEL, prompt="hi", max_tokens=3, logprobs=0, stream=True)
    offsets, tokens = [], []
    async for chunk in stream:
        if chunk.choices[0].logprobs and chunk.choices[0].logprobs.tokens:
            offsets += chunk.choices[0].logprobs.text_offset
            tokens += chunk.choices[0].logprobs.tokens
            assert chunk.choices[0].logprobs.top_logprobs is None
    assert (tokens, offsets) == (["a", "b", "c"], [0, 1, 2])


async def test_chat(web: Any) -> None:
    answer = await web.openai.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=3)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "abc"
    assert answer.choices[0].finish_reason == "length"
    assert bytes(web.engine.seen[0].prompt) == b"<system>be brief<user>hi<assistant>"


async def test_streamed_chat(web: Any) -> None:
    stream = await web.openai.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=3, stream=True, stream_options={"include_usage": True}, n=2
    )
    chunks = [chunk async for chunk in stream]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", "assistant"]
    for index in (0, 1):
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices and chunk.choices[0].index == index]
        assert "".join(part.delta.content or "" for part in parts) == "abc"
        assert [part.finish_reason for part in parts if part.finish_reason] == ["length"]
    assert chunks[-1].usage.completion_tokens == 6


async def test_chat_logprobs(web: Any) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 1, "logprobs": True}
    answer = await web.openai.chat.completions.create(**asked, top_logprobs=2)
    (entry,) = answer.choices[0].logprobs.content
    assert (entry.token, entry.bytes, entry.logprob) == ("a", [97], -0.5)
    assert [(top.token, top.logprob) for top in entry.top_logprobs] == [("a", -0.5), ("\x01", -2.0)]
    stream = await web.openai.chat.completions.create(**asked, stream=True)
    found = [chunk.choices[0].logprobs async for chunk in stream if chunk.choices[0].logprobs]
    assert [(entry.token, entry.top_logprobs) for part in found for entry in part.content] == [("a", [])]


async def test_what_is_impossible_has_openais_lowest_logprob(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = web.engine._part

    def part(index: int, ids: list[int], params: Any, finished: bool) -> Any:
        found = made(index, ids, params, finished)
        found.logprobs = [{token: Logprob(-math.inf, 1)} for token in ids]
        return found

    monkeypatch.setattr(web.engine, "_part", part)
    answer = await web.openai.completions.create(model=MODEL, prompt="hi", max_tokens=1, logprobs=1)
    assert answer.choices[0].logprobs.token_logprobs == [-9999.0]


async def test_sampling_reaches_the_engine(web: Any) -> None:
    await web.openai.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_completion_tokens=5,
        temperature=0.5,
        top_p=0.9,
        n=2,
        seed=11,
        stop=["x", "y"],
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logit_bias={"65": -3},
        extra_body={"top_k": 7, "min_p": 0.1, "stop_token_ids": [3], "min_tokens": 2, "ignore_eos": True},
    )
    params = web.engine.seen[0].params
    assert (params.max_tokens, params.temperature, params.top_p, params.n, params.seed) == (5, 0.5, 0.9, 2, 11)
    assert (params.presence_penalty, params.frequency_penalty, params.top_k, params.min_p) == (0.1, 0.2, 7, 0.1)
    assert (tuple(params.stop), tuple(params.stop_token_ids), params.min_tokens) == (("x", "y"), (3,), 2)
    assert params.ignore_eos
    assert params.logit_bias == {65: -3.0}


async def test_models(web: Any) -> None:
    (model,) = (await web.openai.models.list()).data
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "lepton")
    assert model.capabilities == ["generate", "score", "chat"]
    assert (await web.openai.models.retrieve(MODEL)).max_model_len == 4096
    with pytest.raises(openai.NotFoundError) as caught:
        await web.openai.models.retrieve("other/model")
    assert caught.value.code == "model_not_found"


async def test_embeddings_are_refused_clearly(web: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await web.openai.embeddings.create(model=MODEL, input="hi")
    assert caught.value.param == "model"
    assert "has no embeddings" in str(caught.value)
