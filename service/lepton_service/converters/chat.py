"""Chat prompts to the plain messages that chat templates read."""

import json
import re
from typing import Any

from google.protobuf.struct_pb2 import Value

from lepton.v1.chat_pb2 import ChatMessage, ChatPrompt, Role, Tool, ToolChoice
from lepton_service.errors import InvalidFieldError

_ROLES = {
    Role.ROLE_SYSTEM: "system",
    Role.ROLE_USER: "user",
    Role.ROLE_ASSISTANT: "assistant",
    Role.ROLE_TOOL: "tool",
}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


def messages(chat: ChatPrompt, path: str = "chat") -> list[dict[str, Any]]:
    """The messages as templates read them: role, content (one text), and what else is set.

    Raises:
        InvalidFieldError: naming the field below `path`.
    """
    if not chat.messages:
        raise InvalidFieldError(f"{path}.messages", "is empty, at least one message is required")
    return [_message(message, f"{path}.messages[{index}]") for index, message in enumerate(chat.messages)]


def _message(message: ChatMessage, path: str) -> dict[str, Any]:
    role = _ROLES.get(message.role)
    if role is None:
        allowed = ", ".join(Role.Name(value) for value in _ROLES)
        raise InvalidFieldError(f"{path}.role", f"{message.role} is not one of {allowed}")
    texts = []
    for index, part in enumerate(message.content):
        if part.WhichOneof("part") != "text":
            raise InvalidFieldError(f"{path}.content[{index}]", "holds no part of a known kind, allowed is text")
        texts.append(part.text)
    plain: dict[str, Any] = {"role": role, "content": "".join(texts)}
    if message.HasField("name"):
        plain["name"] = message.name
    if message.HasField("reasoning_text"):
        _only(message, "reasoning_text", Role.ROLE_ASSISTANT, path)
        plain["reasoning_content"] = message.reasoning_text
    if message.HasField("tool_call_id"):
        _only(message, "tool_call_id", Role.ROLE_TOOL, path)
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        _only(message, "tool_calls", Role.ROLE_ASSISTANT, path)
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": _json_object(call.arguments_json, f"{path}.tool_calls[{index}].arguments_json"),
                },
            }
            for index, call in enumerate(message.tool_calls)
        ]
    return plain


def _only(message: ChatMessage, field: str, role: Role.ValueType, path: str) -> None:
    if message.role != role:
        found = Role.Name(message.role)
        raise InvalidFieldError(f"{path}.{field}", f"is set on a message of {found}, allowed on {Role.Name(role)} only")


def tools(chat: ChatPrompt, path: str = "chat") -> list[dict[str, Any]] | None:
    """The tools as function definitions in JSON; None where there are none, or none may be called.

    Raises:
        InvalidFieldError: naming the field below `path`.
    """
    definitions = [_tool(tool, f"{path}.tools[{index}]") for index, tool in enumerate(chat.tools)]
    choice = chat.tool_choice
    if choice.WhichOneof("choice") == "name" and choice.name not in {tool.name for tool in chat.tools}:
        raise InvalidFieldError(f"{path}.tool_choice.name", f"{choice.name!r} is not among the tools")
    if choice.WhichOneof("choice") == "mode":
        if choice.mode not in ToolChoice.Mode.values():
            raise InvalidFieldError(f"{path}.tool_choice.mode", f"{choice.mode} is not a known mode")
        if choice.mode == ToolChoice.MODE_NONE:
            return None
    return definitions or None


def _tool(tool: Tool, path: str) -> dict[str, Any]:
    if not _TOOL_NAME.fullmatch(tool.name):
        allowed = "allowed are 1 to 64 of a-z, A-Z, 0-9, '_', '-' and '.'"
        raise InvalidFieldError(f"{path}.name", f"{tool.name!r} is not a tool's name: {allowed}")
    if tool.parameters_json_schema:
        schema = _json_object(tool.parameters_json_schema, f"{path}.parameters_json_schema")
    else:
        schema = {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": schema},
    }


def _json_object(text: str, path: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFieldError(path, f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidFieldError(path, "is JSON but no object, an object is required")
    return value


def template_arguments(chat: ChatPrompt) -> dict[str, Any]:
    """Further variables of the template. Whole numbers become integers, which Struct does not tell apart."""
    return {name: _plain(value) for name, value in chat.template_arguments.fields.items()}


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(item) for name, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    return None if kind in (None, "null_value") else getattr(value, kind)


def generation_prompt(chat: ChatPrompt, path: str = "chat", default: bool = True) -> tuple[bool, bool]:
    """Whether the template adds the opening of the assistant's turn, and whether it leaves the last message open.

    Raises:
        InvalidFieldError: both are asked for.
    """
    continued = chat.continue_final_message
    added = chat.add_generation_prompt if chat.HasField("add_generation_prompt") else default and not continued
    if continued and added:
        raise InvalidFieldError(f"{path}.add_generation_prompt", "true excludes continue_final_message = true")
    return added, continued
