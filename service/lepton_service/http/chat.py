"""`/v1/chat/completions`: the request's JSON to the contract's request."""

import json
from typing import Any, Literal

import msgspec
from google.protobuf.message import DecodeError, EncodeError

from lepton.v1.chat_pb2 import ChatMessage, ChatPrompt, Role, ToolChoice
from lepton.v1.generation_pb2 import CompleteRequest
from lepton_service.http.errors import invalid, unsupported
from lepton_service.http.schema import NULL, UNSUPPORTED, GenerationBody, Int32, fill, refuse_unsupported

ANY_OBJECT = '{"type": "object"}'

_ROLES = {
    "system": Role.ROLE_SYSTEM,
    "developer": Role.ROLE_SYSTEM,
    "user": Role.ROLE_USER,
    "assistant": Role.ROLE_ASSISTANT,
    "tool": Role.ROLE_TOOL,
}
_MODES = {"auto": ToolChoice.MODE_AUTO, "none": ToolChoice.MODE_NONE, "required": ToolChoice.MODE_REQUIRED}
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    **UNSUPPORTED,
    "audio": (),
    "function_call": (),
    "functions": (),
    "metadata": (),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True,),
    "prediction": (),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": (),
    "web_search_options": (),
}


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of the parts of a request."""


class ContentPart(_Strict):
    """One part of a message's content; text is the only kind."""

    type: Literal["text"]
    text: str


class CalledFunction(_Strict):
    """What a tool call calls."""

    name: str
    arguments: str


class Call(_Strict):
    """A tool call that the assistant has made."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


class Message(_Strict):
    """One message of the conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: Any = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None


class Function(_Strict):
    """A tool's definition."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None


class Tool(_Strict):
    """A tool that the model may call; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionName(_Strict):
    """Which function."""

    name: str


class NamedTool(_Strict):
    """The tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class JSONSchema(_Strict):
    """A named schema. Schemas are always held to, whatever `strict` says."""

    name: str
    schema: msgspec.Raw = NULL
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Strict):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None


class ChatBody(GenerationBody, forbid_unknown_fields=True, kw_only=True):
    """OpenAI's chat completion request."""

    messages: list[Message]
    logprobs: bool | None = None
    top_logprobs: Int32 | None = None
    max_completion_tokens: Int32 | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: str | NamedTool | None = None
    # The contract's own.
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    # OpenAI's that are refused.
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    metadata: Any = None
    modalities: Any = None
    moderation: Any = None
    parallel_tool_calls: Any = None
    prediction: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None
    web_search_options: Any = None


def request(body: ChatBody) -> CompleteRequest:
    """The contract's request.

    Raises:
        HTTPError: naming the field at fault.
    """
    refuse_unsupported(body, _UNSUPPORTED)
    made = CompleteRequest()
    fill(made, body)
    made.chat.SetInParent()
    made.chat.messages.extend(_message(message, f"messages[{index}]") for index, message in enumerate(body.messages))
    _add_tools(made.chat, body)
    _add_template_options(made, body)
    if body.max_completion_tokens is not None:
        if body.max_tokens not in (None, body.max_completion_tokens):
            raise invalid("max_completion_tokens", f"differs from max_tokens = {body.max_tokens}, give one of them")
        made.stop.max_tokens = body.max_completion_tokens
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs", "is set without logprobs = true")
    if body.logprobs:
        made.output.logprobs = body.top_logprobs or 0
    else:
        made.output.return_token_ids = False
    _add_format(made, body)
    return made


def _message(given: Message, path: str) -> ChatMessage:
    role = _ROLES.get(given.role)
    if role is None:
        raise invalid(f"{path}.role", f"{given.role[:100]!r} is not one of {', '.join(_ROLES)}")
    for name in ("refusal", "annotations", "audio", "function_call"):
        if getattr(given, name) not in (None, [], ""):
            raise unsupported(f"{path}.{name}", "is not supported by this server, leave it out")
    if given.content is None and not given.tool_calls:
        raise invalid(f"{path}.content", "is missing, a text or a list of text parts is required")
    made = ChatMessage(role=role)
    parts = given.content or ()
    for text in [parts] if isinstance(parts, str) else [part.text for part in parts]:
        made.content.add(text=text)
    if given.name is not None:
        made.name = given.name
    if given.tool_call_id is not None:
        made.tool_call_id = given.tool_call_id
    if given.reasoning_content is not None:
        made.reasoning_text = given.reasoning_content
    for call in given.tool_calls or ():
        made.tool_calls.add(id=call.id, name=call.function.name, arguments_json=call.function.arguments)
    return made


def _add_tools(chat: ChatPrompt, body: ChatBody) -> None:
    for tool in body.tools or ():
        parameters = bytes(tool.function.parameters).decode()
        chat.tools.add(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters_json_schema="" if parameters.strip() == "null" else parameters,
        )
    choice = body.tool_choice
    if choice is None:
        return
    if isinstance(choice, NamedTool):
        chat.tool_choice.name = choice.function.name
    elif choice in _MODES:
        chat.tool_choice.mode = _MODES[choice]
    else:
        raise invalid("tool_choice", f"{choice[:100]!r} is not one of {', '.join(_MODES)}, or a named function")


def _add_template_options(made: CompleteRequest, body: ChatBody) -> None:
    chat = made.chat
    if body.chat_template_kwargs is not None:
        try:
            chat.template_arguments.update(body.chat_template_kwargs)
            CompleteRequest.FromString(made.SerializeToString())  # bounds the depth, as on the wire
        except (ValueError, DecodeError, EncodeError, RecursionError) as error:
            raise invalid("chat_template_kwargs", f"cannot be a message: {error}") from error
    if body.add_generation_prompt is not None:
        chat.add_generation_prompt = body.add_generation_prompt
    if body.continue_final_message is not None:
        chat.continue_final_message = body.continue_final_message


def _add_format(made: CompleteRequest, body: ChatBody) -> None:
    given = body.response_format
    if given is None:
        return
    if given.type != "json_schema" and given.json_schema is not None:
        raise invalid("response_format.json_schema", f"is set with type = {json.dumps(given.type)}")
    if given.type == "text":
        return
    if made.HasField("constraint"):
        raise invalid("response_format", "is set beside structured_outputs, give one of them")
    if given.type == "json_object":
        made.constraint.json_schema = ANY_OBJECT
        return
    schema = b"null" if given.json_schema is None else bytes(given.json_schema.schema)
    if schema.strip() == b"null":
        raise invalid("response_format.json_schema", "is missing, a name and a schema are required")
    made.constraint.json_schema = schema.decode()
