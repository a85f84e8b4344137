"""Requests from plain Python values."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from lepton.v1.chat_pb2 import ChatMessage, ChatPrompt, ContentPart, Role, Tool, ToolChoice
from lepton.v1.generation_pb2 import CompleteRequest, GenerateRequest
from lepton.v1.sampling_pb2 import Constraint
from lepton.v1.scoring_pb2 import ScoreRequest
from lepton.v1.tokens_pb2 import TokenIds
from lepton_service.converters.durations import to_duration

Message = Mapping[str, Any]
Prompt = str | Sequence[int] | Sequence[Message] | ChatPrompt


class Options(TypedDict, total=False):
    """Options of a request under the names of the contract's fields; one that is left out takes its default there."""

    model: str
    request_id: str
    priority: int
    time_limit: float
    max_queue_time: float
    adapter: str
    add_special_tokens: bool
    n: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: Mapping[int, float]
    allowed_token_ids: Sequence[int]
    bad_words: Sequence[str]
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    include_stop_in_output: bool
    ignore_eos: bool
    max_tokens: int
    min_tokens: int
    logprobs: int
    prompt_logprobs: int
    return_text: bool
    return_token_ids: bool
    return_prompt_token_ids: bool
    skip_special_tokens: bool
    coalesce_tokens: int
    coalesce_delay: float
    constraint: Constraint
    json_schema: str | Mapping[str, Any]
    regex: str
    grammar: str
    choices: Sequence[str]
    tools: Sequence[Tool | Mapping[str, Any]]
    tool_choice: str | ToolChoice


class ScoreOptions(TypedDict, total=False):
    """Options of a ScoreRequest under the names of its fields; one that is left out takes its default there."""

    model: str
    context_tokens: int
    top_logprobs: int
    return_token_ids: bool
    request_id: str
    priority: int
    adapter: str
    add_special_tokens: bool
    max_queue_time: float


_PLACES = {
    **dict.fromkeys(("model", "request_id", "priority", "adapter", "add_special_tokens"), ""),
    **dict.fromkeys(
        (
            "n",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
        ),
        "sampling",
    ),
    **dict.fromkeys(("ignore_eos", "max_tokens", "min_tokens"), "stop"),
    **dict.fromkeys(
        (
            "logprobs",
            "prompt_logprobs",
            "return_text",
            "return_token_ids",
            "return_prompt_token_ids",
            "skip_special_tokens",
        ),
        "output",
    ),
}
_MODES = {"auto": ToolChoice.MODE_AUTO, "none": ToolChoice.MODE_NONE, "required": ToolChoice.MODE_REQUIRED}
_ROLES = {
    "system": Role.ROLE_SYSTEM,
    "user": Role.ROLE_USER,
    "assistant": Role.ROLE_ASSISTANT,
    "tool": Role.ROLE_TOOL,
}


def generate_request(prompt: Prompt, **options: Unpack[Options]) -> GenerateRequest:
    """A request for a stream.

    Args:
        prompt: text, token ids, messages (`{"role": "user", "content": "..."}`), or a ChatPrompt.

    Raises:
        TypeError: an option that does not exist. ValueError: a message with an unknown role, a tool without a name,
            tools with a prompt that is no conversation.
    """
    request = GenerateRequest()
    _set_prompt(request, prompt)
    for name, value in options.items():
        _set(request, name, value)
    return request


def _set_prompt(request: GenerateRequest | ScoreRequest, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        request.text = prompt
    elif isinstance(prompt, ChatPrompt):
        request.chat.CopyFrom(prompt)
    elif prompt and isinstance(prompt[0], Mapping):
        request.chat.CopyFrom(chat_prompt([message for message in prompt if isinstance(message, Mapping)]))
    else:
        request.token_ids.CopyFrom(TokenIds(ids=[token for token in prompt if isinstance(token, int)]))


def score_request(prompt: Prompt, **options: Unpack[ScoreOptions]) -> ScoreRequest:
    """A request to score a text.

    Args:
        prompt: as in `generate_request`.

    Raises:
        TypeError: an option that does not exist. ValueError: a message with an unknown role.
    """
    request = ScoreRequest()
    _set_prompt(request, prompt)
    for name, value in options.items():
        if name not in ScoreOptions.__annotations__:
            raise TypeError(f"{name!r} is not an option of a request; see ScoreOptions for those that are")
        if name == "max_queue_time":
            request.max_queue_time.CopyFrom(to_duration(options["max_queue_time"]))
        else:
            setattr(request, name, value)
    return request


def complete_request(prompt: Prompt, **options: Unpack[Options]) -> CompleteRequest:
    """A request for one answer; the same as for a stream."""
    return CompleteRequest.FromString(generate_request(prompt, **options).SerializeToString())


def chat_prompt(messages: Sequence[Message]) -> ChatPrompt:
    """A conversation from messages with `role` and `content`, and for tools `tool_calls` (of `ToolCall`) or
    `tool_call_id`.

    Raises:
        ValueError: an unknown role.
    """
    chat = ChatPrompt()
    for message in messages:
        role = _ROLES.get(message.get("role", ""))
        if role is None:
            raise ValueError(f"messages: role {message.get('role')!r} is not one of {', '.join(_ROLES)}")
        made = ChatMessage(role=role, content=[ContentPart(text=message.get("content") or "")])
        made.tool_calls.extend(message.get("tool_calls") or ())
        if message.get("tool_call_id"):
            made.tool_call_id = message["tool_call_id"]
        chat.messages.append(made)
    return chat


def _set(request: GenerateRequest, name: str, value: Any) -> None:
    if name in _PLACES:
        place = _PLACES[name]
        setattr(getattr(request, place) if place else request, name, value)
    elif name in ("time_limit", "max_queue_time"):
        getattr(request, name).CopyFrom(to_duration(value))
    elif name == "logit_bias":
        request.sampling.logit_bias.update(value)
    elif name in ("allowed_token_ids", "bad_words"):
        getattr(request.sampling, name).extend(value)
    elif name == "stop":
        request.stop.strings.extend([value] if isinstance(value, str) else value)
    elif name == "stop_token_ids":
        request.stop.token_ids.extend(value)
    elif name == "include_stop_in_output":
        request.stop.include_in_output = value
    elif name == "coalesce_tokens":
        request.output.coalescing.max_tokens = value
    elif name == "coalesce_delay":
        request.output.coalescing.max_delay.CopyFrom(to_duration(value))
    elif name == "constraint":
        request.constraint.CopyFrom(value)
    elif name == "json_schema":
        request.constraint.json_schema = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    elif name in ("regex", "grammar"):
        setattr(request.constraint, name, value)
    elif name == "choices":
        request.constraint.choices.CopyFrom(Constraint.Choices(texts=value))
    elif name == "tools":
        _chat_of(request, name).tools.extend(tool if isinstance(tool, Tool) else function_tool(tool) for tool in value)
    elif name == "tool_choice":
        _chat_of(request, name).tool_choice.CopyFrom(value if isinstance(value, ToolChoice) else tool_choice(value))
    else:
        raise TypeError(f"{name!r} is not an option of a request; see Options for those that are")


def _chat_of(request: GenerateRequest, option: str) -> ChatPrompt:
    if request.WhichOneof("prompt") != "chat":
        raise ValueError(f"{option}: goes with a conversation only, the prompt is {request.WhichOneof('prompt')}")
    return request.chat


def function_tool(tool: Mapping[str, Any]) -> Tool:
    """A tool from a function's definition in JSON, as OpenAI's clients write it or its `function` alone.

    Raises:
        ValueError: it has no name.
    """
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError("tools: one has no name")
    parameters = function.get("parameters")
    return Tool(
        name=function["name"],
        description=function.get("description") or "",
        parameters_json_schema="" if parameters is None else json.dumps(parameters, ensure_ascii=False),
    )


def tool_choice(choice: str) -> ToolChoice:
    """A choice: "auto", "none", "required", or the name of the tool that must be called."""
    mode = _MODES.get(choice)
    return ToolChoice(name=choice) if mode is None else ToolChoice(mode=mode)
