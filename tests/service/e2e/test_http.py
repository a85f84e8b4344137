"""The HTTP port of a `lepton serve`: the `openai` client's calls on a real engine."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from lepton_engine import LeptonEngine, SamplingParams
from lepton_service.client import LeptonClient
from tests.service.e2e import serving
from tests.service.e2e.serving import Serving


@pytest.fixture(scope="module")
def web(tiny: Path) -> Iterator[Serving]:
    server = serving.start(tiny, "--http-port", "0", "--served-model-name", "tiny")
    server.ready()
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0, server.log


@pytest.fixture
def ai(web: Serving) -> Iterator[openai.OpenAI]:
    address = web.wait_for(r"http on (\S+)")
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(ai: openai.OpenAI) -> None:
    (model,) = ai.models.list().data
    assert model.id == "tiny"


def test_a_seed_gives_the_engines_own_tokens(ai: openai.OpenAI, local: LeptonEngine) -> None:
    params = SamplingParams(temperature=0.9, top_k=50, top_p=0.95, seed=5, max_tokens=12)
    expected = local.generate("hello", params)[0].outputs[0].text
    asked: dict[str, Any] = {"model": "tiny", "prompt": "hello", "seed": 5, "max_tokens": 12}
    assert ai.completions.create(**asked).choices[0].text == expected
    streamed = ai.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected


def test_chat_with_logprobs_streamed_and_not(ai: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "seed": 3,
        "n": 2,
        "max_completion_tokens": 8,
        "logprobs": True,
        "top_logprobs": 3,
    }
    whole = ai.chat.completions.create(**asked)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == sum(len(choice.logprobs.content) for choice in whole.choices)
    entries: dict[int, list[Any]] = {0: [], 1: []}
    texts = {0: "", 1: ""}
    usage = None
    for chunk in ai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.logprobs is not None and choice.logprobs.content:
                entries[choice.index] += choice.logprobs.content
    assert usage is not None
    assert usage.total_tokens == whole.usage.total_tokens
    for choice in whole.choices:
        assert texts[choice.index] == choice.message.content
        assert choice.logprobs is not None
        found = [(entry.token, entry.bytes) for entry in entries[choice.index]]
        assert found == [(entry.token, entry.bytes) for entry in choice.logprobs.content or ()]
        assert all(len(entry.top_logprobs) == 3 for entry in entries[choice.index])
        spelt = b"".join(bytes(entry.bytes or ()) for entry in entries[choice.index])
        assert spelt.decode(errors="replace").startswith(texts[choice.index].rstrip("\ufffd"))


def test_stop_strings(ai: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "hello", "seed": 5, "max_tokens": 40}
    whole = ai.completions.create(**asked).choices[0].text
    stop = whole[10:12]
    found = ai.completions.create(**asked, stop=[stop]).choices[0]
    assert (found.text, found.finish_reason) == (whole[: whole.index(stop)], "stop")
    assert found.stop_reason == stop


def test_a_client_that_goes_frees_the_engine(web: Serving, ai: openai.OpenAI) -> None:
    with LeptonClient(web.target) as client:
        before = client.stats().aborted
        stream = ai.completions.create(
            model="tiny", prompt="hello", max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        stream.close()
        while client.stats().aborted == before:
            pass
        stats = client.stats()
        assert (stats.running, stats.kv_blocks_referenced) == (0, 0)


def test_invalid_requests_and_the_gpu_free_front_end(web: Serving, ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ai.completions.create(model="tiny", prompt="hello", temperature=-1)
    assert caught.value.param == "temperature"
    libraries = [mapped.path for mapped in psutil.Process(web.process.pid).memory_maps()]
    assert not [path for path in libraries if "libtorch" in path]


PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ann", "Bob"]}, "old": {"type": "boolean"}},
    "required": ["name", "old"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def asked(text: str = "hello", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "tiny", "messages": messages, "seed": 1, "max_completion_tokens": 400, **fields}


def test_a_json_schema_holds_streamed_and_not(ai: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    whole = ai.chat.completions.create(**asked(response_format=form, n=2))
    for choice in whole.choices:
        person = json.loads(choice.message.content or "")
        assert person["name"] in ("Ann", "Bob")
        assert isinstance(person["old"], bool)
        assert choice.finish_reason == "stop"
    texts = {0: "", 1: ""}
    for chunk in ai.chat.completions.create(**asked(response_format=form, n=2), stream=True):
        for part in chunk.choices:
            texts[part.index] += part.delta.content or ""
    assert texts == {choice.index: choice.message.content for choice in whole.choices}


def test_other_constraints(ai: openai.OpenAI) -> None:
    extra: Any = {"structured_outputs": {"choice": ["yes", "no"]}}
    found = ai.completions.create(model="tiny", prompt="hello", max_tokens=20, extra_body=extra)
    assert found.choices[0].text in ("yes", "no")
    extra = {"structured_outputs": {"regex": "[a-c]{3}[0-9]"}}
    found = ai.completions.create(model="tiny", prompt="hello", max_tokens=20, extra_body=extra)
    assert re.fullmatch("[a-c]{3}[0-9]", found.choices[0].text)
    begun = ai.chat.completions.create(**asked(response_format={"type": "json_object"}, max_completion_tokens=3))
    assert (begun.choices[0].message.content or "").lstrip().startswith("{")


def test_a_schema_that_cannot_be_held(ai: openai.OpenAI) -> None:
    for schema in ({"type": "nothing"}, 5, {"$ref": "#/nowhere"}):
        form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as caught:
            ai.chat.completions.create(**asked(response_format=form))
        assert caught.value.param == "response_format"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_tools_are_called_streamed_and_not(ai: openai.OpenAI, choice: Any) -> None:
    whole = ai.chat.completions.create(**asked(tools=[WEATHER], tool_choice=choice)).choices[0]
    assert whole.finish_reason == "tool_calls"
    calls: list[Any] = list(whole.message.tool_calls or ())
    assert calls
    for call in calls:
        assert (call.type, call.function.name) == ("function", "weather")
        assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
        assert call.id
    pieces: dict[int, tuple[str, str]] = {}
    reasons = []
    for chunk in ai.chat.completions.create(**asked(tools=[WEATHER], tool_choice=choice), stream=True):
        for part in chunk.choices:
            reasons.append(part.finish_reason)
            for piece in part.delta.tool_calls or ():
                name, arguments = pieces.get(piece.index, ("", ""))
                assert piece.function is not None
                name += piece.function.name or ""
                pieces[piece.index] = (name, arguments + (piece.function.arguments or ""))
    assert reasons[-1] == "tool_calls"
    assert [pieces[index] for index in sorted(pieces)] == [
        (call.function.name, call.function.arguments) for call in calls
    ]


def test_the_result_of_a_tool_goes_back(ai: openai.OpenAI) -> None:
    answer = ai.chat.completions.create(**asked(tools=[WEATHER], tool_choice="required")).choices[0].message
    assert answer.tool_calls
    messages: list[Any] = [{"role": "user", "content": "hello"}, answer.model_dump()]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in answer.tool_calls]
    found = ai.chat.completions.create(
        model="tiny", messages=messages, tools=[WEATHER], tool_choice="none", max_completion_tokens=4
    )
    assert found.usage is not None
    assert 1 <= found.usage.completion_tokens <= 4  # the model may draw its end
    assert found.choices[0].message.tool_calls is None
