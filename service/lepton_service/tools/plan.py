"""What a request with tools asks of the engine, and how its output is read."""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from lepton.v1.chat_pb2 import ChatPrompt, ToolChoice
from lepton_engine.errors import InvalidRequestError
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.structured_outputs import StructuredOutputs
from lepton_service.converters import chat as chats
from lepton_service.engine_api import Tokenizer
from lepton_service.errors import InvalidFieldError, UnsupportedFieldError
from lepton_service.tools.choose import tool_format
from lepton_service.tools.formats import ToolFormat, ToolSchema, quoted
from lepton_service.tools.parsing import Parser

MAX_TOOLS = 128


@dataclass(frozen=True)
class ToolPlan:
    """How a request's calls are made.

    Attributes:
        constraint: what the output is held to; None where it may be any text.
        format: that the model writes. names: of the tools.
        special_tokens: texts to be left out of the answer's text where the marker is a special token, which the engine
            must then leave in; None where it leaves them out itself.
    """

    constraint: StructuredOutputs | None
    format: ToolFormat
    names: tuple[str, ...]
    special_tokens: frozenset[str] | None

    def params(self, params: SamplingParams) -> SamplingParams:
        """The parameters of a request with this plan.

        Raises:
            InvalidFieldError: it has a constraint of its own, or wants no text.
        """
        if params.structured_outputs is not None:
            raise InvalidFieldError("constraint", "does not go with tools that may be called: leave one of them out")
        if not params.detokenize:
            raise InvalidFieldError("output.return_text", "false does not go with tools: calls are found in the text")
        skip = params.skip_special_tokens and self.special_tokens is None
        return msgspec.structs.replace(params, structured_outputs=self.constraint, skip_special_tokens=skip)

    def parser(self) -> Parser:
        """A parser of one choice."""
        return self.format.parser(self.names)


def tool_plan(chat: ChatPrompt, tokenizer: Tokenizer, path: str = "chat") -> ToolPlan | None:
    """The plan of a conversation; None where no tool may be called.

    Raises:
        InvalidFieldError: a tool or the choice is malformed. UnsupportedFieldError: the model's format is not known.
    """
    definitions = chats.tools(chat, path)
    forced, only = _choice(chat)
    if definitions is None:
        if forced:
            raise InvalidFieldError(f"{path}.tool_choice", "requires a call, but there are no tools")
        return None
    tools = [_schema(entry["function"], f"{path}.tools[{index}]") for index, entry in enumerate(definitions)]
    _check_names(tools, path)
    found = tool_format(tokenizer)
    if found is None:
        reason = "this server does not know the form in which the model's chat template writes calls"
        raise UnsupportedFieldError(f"{path}.tools", reason)
    names = tuple(tool.name for tool in tools)
    offered = [tool for tool in tools if only is None or tool.name == only]
    marker, special = _marker(found, tokenizer)
    grammar = found.grammar(offered, forced=forced, several=only is None, marker=marker)
    try:
        constraint = None if grammar is None else StructuredOutputs(grammar=grammar)
    except InvalidRequestError as error:
        raise InvalidFieldError(f"{path}.tools", error.reason) from error
    return ToolPlan(constraint, found, names, special)


def _choice(chat: ChatPrompt) -> tuple[bool, str | None]:
    """Whether a call is forced, and of which tool alone."""
    if chat.tool_choice.WhichOneof("choice") == "name":
        return True, chat.tool_choice.name
    return chat.tool_choice.mode == ToolChoice.MODE_REQUIRED, None


def _schema(function: dict[str, Any], path: str) -> ToolSchema:
    parameters = dict(function["parameters"])
    kind = parameters.setdefault("type", "object")
    if kind != "object":
        found = json.dumps(kind)[:100]
        raise InvalidFieldError(f"{path}.parameters_json_schema", f"has the type {found}, arguments are an object")
    if parameters == {"type": "object", "properties": {}}:
        parameters["additionalProperties"] = False  # a tool without arguments
    return ToolSchema(function["name"], parameters)


def _check_names(tools: list[ToolSchema], path: str) -> None:
    if len(tools) > MAX_TOOLS:
        raise InvalidFieldError(f"{path}.tools", f"has {len(tools)} tools, at most {MAX_TOOLS} are allowed")
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise InvalidFieldError(f"{path}.tools[{index}].name", f"{tool.name!r} is the name of another tool, too")
        seen.add(tool.name)


def _marker(found: ToolFormat, tokenizer: Tokenizer) -> tuple[str, frozenset[str] | None]:
    """How the grammar writes the marker, and the special tokens' texts if it is one of them."""
    if found.marker is None:
        return "", None
    token = tokenizer.token_to_id(found.marker)
    if token is None or token not in tokenizer.special_ids:
        return quoted(found.marker), None
    texts = (tokenizer.decode([special], skip_special_tokens=False) for special in tokenizer.special_ids)
    return f"<[{token}]>", frozenset(texts) - {""}
