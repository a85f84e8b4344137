"""JSON to the contract's messages and back, without a server."""

import json
from typing import Any

import msgspec
import pytest

from lepton.v1.chat_pb2 import Role, ToolCall, ToolChoice
from lepton.v1.generation_pb2 import (
    Choice,
    CompleteRequest,
    CompleteResponse,
    Delta,
    Finished,
    FinishReason,
    GenerateResponse,
    Started,
    ToolCallDelta,
)
from lepton.v1.tokens_pb2 import Usage
from lepton_service.http import body, chat, completions
from lepton_service.http.answers import Form
from lepton_service.http.errors import HTTPError
from lepton_service.http.tokens import TokenTexts

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "tells it",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}


def chatted(**fields: Any) -> CompleteRequest:
    given = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return chat.request(body.decode(json.dumps(given).encode(), chat.ChatBody))


def completed(**fields: Any) -> list[CompleteRequest]:
    return completions.requests(
        body.decode(json.dumps({"prompt": "hi", **fields}).encode(), completions.CompletionBody)
    )


def form(kind: str = "chat", **fields: Any) -> Form:
    def none() -> TokenTexts:
        raise AssertionError("nobody asked for log-probabilities")

    values: dict[str, Any] = {"choices": 1, "logprobs": False, "include_usage": True, **fields}
    return Form(request_id="r", model="m", created=1, texts=none, kind=kind, **values)


def test_messages() -> None:
    made = chatted(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ]
    ).chat
    assert [message.role for message in made.messages] == [
        Role.ROLE_SYSTEM,
        Role.ROLE_USER,
        Role.ROLE_ASSISTANT,
        Role.ROLE_TOOL,
    ]
    assert [part.text for part in made.messages[1].content] == ["a", "b"]
    assert made.messages[1].name == "Ann"
    assert made.messages[2].reasoning_text == "hm"
    assert made.messages[2].tool_calls[0] == ToolCall(id="c1", name="weather", arguments_json="{}")
    assert made.messages[3].tool_call_id == "c1"


def test_tools() -> None:
    made = chatted(tools=[WEATHER, {"type": "function", "function": {"name": "now"}}]).chat
    assert [(tool.name, tool.description) for tool in made.tools] == [("weather", "tells it"), ("now", "")]
    assert json.loads(made.tools[0].parameters_json_schema) == WEATHER["function"]["parameters"]  # type: ignore[index]
    assert made.tools[1].parameters_json_schema == ""
    assert not made.HasField("tool_choice")


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("auto", ToolChoice(mode=ToolChoice.MODE_AUTO)),
        ("none", ToolChoice(mode=ToolChoice.MODE_NONE)),
        ("required", ToolChoice(mode=ToolChoice.MODE_REQUIRED)),
        ({"type": "function", "function": {"name": "weather"}}, ToolChoice(name="weather")),
    ],
)
def test_tool_choice(given: Any, choice: ToolChoice) -> None:
    assert chatted(tools=[WEATHER], tool_choice=given).chat.tool_choice == choice


def test_response_format() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    made = chatted(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    assert json.loads(made.constraint.json_schema) == schema
    assert json.loads(chatted(response_format={"type": "json_object"}).constraint.json_schema) == {"type": "object"}
    assert not chatted(response_format={"type": "text"}).HasField("constraint")


def test_structured_outputs() -> None:
    assert completed(structured_outputs={"regex": "a+"})[0].constraint.regex == "a+"
    assert completed(structured_outputs={"grammar": "start: A"})[0].constraint.grammar == "start: A"
    assert list(completed(structured_outputs={"choice": ["x"]})[0].constraint.choices.texts) == ["x"]
    assert completed(structured_outputs={"choice": []})[0].constraint.WhichOneof("kind") == "choices"
    assert completed(structured_outputs={"json": {"type": "null"}})[0].constraint.json_schema == '{"type": "null"}'


def test_limits_of_tokens() -> None:
    assert not chatted().stop.HasField("max_tokens")
    assert chatted(max_tokens=3).stop.max_tokens == 3
    assert chatted(max_completion_tokens=4).stop.max_tokens == 4
    assert completed()[0].stop.max_tokens == 16
    assert completed(min_tokens=20)[0].stop.max_tokens == 20


def test_time_in_the_queue() -> None:
    assert completed(max_queue_time=1.5)[0].max_queue_time.ToNanoseconds() == 1_500_000_000
    assert not completed()[0].HasField("max_queue_time")
    with pytest.raises(HTTPError, match="max_queue_time"):
        completed(max_queue_time=1e300)


def test_what_the_template_is_told() -> None:
    made = chatted(chat_template_kwargs={"enable_thinking": False}, add_generation_prompt=False).chat
    assert made.template_arguments["enable_thinking"] is False
    assert made.HasField("add_generation_prompt")
    assert chatted(continue_final_message=True).chat.continue_final_message


def test_a_field_that_is_left_out_stays_out() -> None:
    made = chatted()
    assert not made.sampling.ListFields()
    assert not made.stop.ListFields()
    assert [field.name for field, _ in made.output.ListFields()] == ["return_token_ids"]


def test_tool_calls_of_a_whole_answer() -> None:
    calls = [ToolCall(id="c1", name="weather", arguments_json='{"city": "Oslo"}')]
    end = Finished(reason=FinishReason.FINISH_REASON_TOOL_CALLS)
    response = CompleteResponse(
        choices=[Choice(tool_calls=calls, finished=end, reasoning_text="hm")], usage=Usage(prompt_tokens=1)
    )
    (choice,) = form().whole([response])["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
        ],
    }


def test_tool_calls_of_a_stream() -> None:
    made = form()
    pieces = [
        GenerateResponse(started=Started()),
        GenerateResponse(delta=Delta(reasoning_text="hm")),
        GenerateResponse(delta=Delta(tool_calls=[ToolCallDelta(index=0, id="c1", name="weather")])),
        GenerateResponse(delta=Delta(tool_calls=[ToolCallDelta(index=0, arguments_json='{"ci')])),
        GenerateResponse(delta=Delta(tool_calls=[ToolCallDelta(index=0, arguments_json='ty": "Oslo"}')])),
        GenerateResponse(finished=Finished(reason=FinishReason.FINISH_REASON_TOOL_CALLS)),
    ]
    chunks = [chunk for piece in pieces for chunk in made.chunks(0, piece)]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {
            "tool_calls": [
                {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"ci'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'ty": "Oslo"}'}}]},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("end", "reason", "stop"),
    [
        (Finished(reason=FinishReason.FINISH_REASON_STOP), "stop", None),
        (Finished(reason=FinishReason.FINISH_REASON_STOP, stop_string="x"), "stop", "x"),
        (Finished(reason=FinishReason.FINISH_REASON_STOP, stop_token_id=7), "stop", 7),
        (Finished(reason=FinishReason.FINISH_REASON_LENGTH), "length", None),
        (Finished(reason=FinishReason.FINISH_REASON_TIME_LIMIT), "length", "time_limit"),
    ],
)
def test_ends(end: Finished, reason: str, stop: Any) -> None:
    (chunk,) = form("completion").chunks(0, GenerateResponse(finished=end))
    assert (chunk["choices"][0]["finish_reason"], chunk["choices"][0]["stop_reason"]) == (reason, stop)


class Bytes:
    """A tokenizer of bytes whose vocabulary is written as GPT-2 does; id 256 is a special token."""

    vocab_size = 257
    chat_template = None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        data = b"".join(b"<end>" if token == 256 else bytes([token]) for token in ids)
        return data.decode(errors="replace")

    def id_to_token(self, token: int) -> str:
        return {0xC3: "Ã", 0xA9: "©", 0x80: "<0x80>"}.get(token, "?")


def test_texts_and_bytes_of_tokens() -> None:
    texts = TokenTexts(Bytes())  # type: ignore[arg-type]
    assert (texts.text(65), texts.bytes(65)) == ("A", [65])
    assert (texts.text(256), texts.bytes(256)) == ("<end>", list(b"<end>"))
    assert (texts.text(0xC3), texts.bytes(0xC3)) == ("\ufffd", [0xC3])
    assert texts.bytes(0xA9) == [0xA9]
    assert texts.bytes(0x80) == [0x80]
    assert texts.bytes(0xFF) == [ord("?")]  # as the vocabulary writes it


def test_every_byte_is_written_by_one_letter() -> None:
    from tokenizers import pre_tokenizers

    from lepton_service.http.tokens import _ALPHABET

    assert set(_ALPHABET) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(_ALPHABET.values()) == list(range(256))
    assert _ALPHABET["Ġ"] == 0x20
    assert _ALPHABET["Ċ"] == 0x0A


def test_bodies_know_every_field_of_the_openai_client() -> None:
    """A field that is new in the client is refused by name as not supported, not as unknown."""
    from openai.types import completion_create_params
    from openai.types.chat import completion_create_params as chat_create_params

    ours = {field.name for field in msgspec.structs.fields(chat.ChatBody)}
    assert set(chat_create_params.CompletionCreateParamsBase.__annotations__) <= ours
    ours = {field.name for field in msgspec.structs.fields(completions.CompletionBody)}
    assert set(completion_create_params.CompletionCreateParamsBase.__annotations__) <= ours
