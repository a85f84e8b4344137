"""Constraints and tool calls over the wire, on a model of random weights whose template knows no tools."""

import json
import re
from typing import Any

import pytest

from lepton.v1.chat_pb2 import ToolCall
from lepton.v1.generation_pb2 import FinishReason, ToolCallDelta
from lepton_service.client import InvalidArgumentError, LeptonClient

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "tells it", "parameters": SCHEMA}}
NOW = {"name": "now"}
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def test_constraints(client: LeptonClient) -> None:
    answer = client.complete("x", json_schema=SCHEMA, max_tokens=200, n=2, seed=3)
    for choice in answer.choices:
        value = json.loads(choice.text)
        assert value["city"] in ("Rome", "Oslo")
        assert 1 <= value["days"] <= 9
        assert choice.finished.reason == FinishReason.FINISH_REASON_STOP
    text = client.complete("x", choices=["no", "yes", "no.*"], seed=1).choices[0].text
    assert text in ("no", "yes", "no.*")
    assert re.fullmatch("[0-9]{3}-[a-c]", "".join(client.generate("x", regex="[0-9]{3}-[a-c]").texts()))
    assert client.complete("x", grammar='start: "<" /[ab]/ ">"').choices[0].text in ("<a>", "<b>")


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"json_schema": {"type": "integer", "minimum": 2, "maximum": 1}}, "constraint.json_schema", "Unsatisfiable"),
        ({"regex": "(a"}, "constraint.regex", "unclosed group"),
        ({"grammar": "start: b"}, "constraint.grammar", "unknown name"),
        ({"regex": "aaa", "allowed_token_ids": [5]}, "constraint.regex", "forbid every token"),
    ],
)
def test_bad_constraints_are_refused_with_their_path(
    client: LeptonClient, options: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=reason) as caught:
        client.complete("x", max_tokens=9, **options)
    assert caught.value.violations[0].field == field


def test_a_forced_call(client: LeptonClient) -> None:
    answer = client.complete(HELLO, tools=[WEATHER, NOW], tool_choice="weather", max_tokens=300, seed=5)
    (choice,) = answer.choices
    (call,) = choice.tool_calls
    assert (call.name, choice.text) == ("weather", "")
    assert json.loads(call.arguments_json)["city"] in ("Rome", "Oslo")
    assert choice.finished.reason == FinishReason.FINISH_REASON_TOOL_CALLS
    # The next turn: the call and its result go back.
    turn = [*HELLO, {"role": "assistant", "tool_calls": list(choice.tool_calls)}]
    turn.append({"role": "tool", "content": "sunny", "tool_call_id": call.id})
    assert client.complete(turn, tools=[WEATHER], max_tokens=2).usage.generated_tokens == 2


def test_a_call_is_streamed_name_first(client: LeptonClient) -> None:
    pieces: list[ToolCallDelta] = []
    ends = []
    for event in client.generate(HELLO, tools=[NOW, WEATHER], tool_choice="required", max_tokens=250, seed=2):
        if event.WhichOneof("event") == "delta":
            pieces += event.delta.tool_calls
            assert event.delta.text == ""
        elif event.WhichOneof("event") == "finished":
            ends.append(event.finished.reason)
    assert len(ends) == 1
    calls: list[ToolCall] = []
    for piece in pieces:
        if piece.index == len(calls):
            calls.append(ToolCall(id=piece.id, name=piece.name))
            assert piece.id
            assert piece.name in ("now", "weather")
        calls[piece.index].arguments_json += piece.arguments_json
    assert len(calls) >= 1
    if ends[0] == FinishReason.FINISH_REASON_TOOL_CALLS:
        assert all(isinstance(json.loads(call.arguments_json), dict) for call in calls)


def test_calls_that_may_be(client: LeptonClient) -> None:
    """An answer of random letters calls nothing, and loses none of them."""
    plain = client.complete(HELLO, tools=[WEATHER], max_tokens=20, seed=1, return_token_ids=True)
    (choice,) = plain.choices
    assert not choice.tool_calls
    assert choice.text == client.detokenize(list(choice.token_ids))
    none = client.complete(HELLO, tools=[WEATHER], tool_choice="none", max_tokens=2)
    assert none.usage.prompt_tokens < plain.usage.prompt_tokens, "tools that may not be called are not shown"


def test_bad_tools(client: LeptonClient) -> None:
    bad = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}, "required": ["a"]}}
    with pytest.raises(InvalidArgumentError, match="Unimplemented") as caught:
        client.complete(HELLO, tools=[bad], tool_choice="required", max_tokens=5)
    assert caught.value.violations[0].field == "chat.tools"
    with pytest.raises(InvalidArgumentError, match="not among the tools"):
        client.complete(HELLO, tools=[WEATHER], tool_choice="other")
    with pytest.raises(ValueError, match="goes with a conversation only"):
        client.complete("text", tools=[WEATHER])
    with pytest.raises(ValueError, match="has no name"):
        client.complete(HELLO, tools=[{"type": "function"}])
