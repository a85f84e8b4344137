"""Tools for templates that know none: shown in the system message, calls and results as text, as Hermes has them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lepton_service.tools.hermes import CLOSE, OPEN

_INTRODUCTION = (
    "You may call functions. Their signatures:\n<tools>\n{tools}\n</tools>\nTo call one, answer with\n{example}"
)
_EXAMPLE = f'{OPEN}\n{{"name": <name>, "arguments": <object>}}\n{CLOSE}'


def without_tools(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation in messages of system, user and assistant only."""
    made: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            if made and made[-1].get("results"):
                made[-1]["content"] += "\n" + text
            else:
                made.append({"role": "user", "content": text, "results": True})
        elif message.get("tool_calls"):
            parts = [message["content"]] if message["content"] else []
            parts += [_call(call["function"]) for call in message["tool_calls"]]
            rest = {key: value for key, value in message.items() if key != "tool_calls"}
            made.append({**rest, "content": "\n".join(parts)})
        else:
            made.append(dict(message))
    for message in made:
        message.pop("results", None)
    return _introduced(made, tools) if tools else made


def _call(function: Mapping[str, Any]) -> str:
    body = {"name": function["name"], "arguments": function["arguments"]}
    return f"{OPEN}\n{json.dumps(body, ensure_ascii=False)}\n{CLOSE}"


def _introduced(messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = _INTRODUCTION.format(tools=listed, example=_EXAMPLE)
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}".lstrip()}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
