"""What a tool format is, and its grammar's parts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lepton_service.tools.parsing import Parser

# Arguments as the templates write them, without freedom of white space.
JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True)
class ToolSchema:
    """A tool that may be called. parameters: JSON Schema of its arguments, of an object."""

    name: str
    parameters: Mapping[str, Any]


class ToolFormat(Protocol):
    """How a family of models writes calls."""

    @property
    def name(self) -> str:
        """For logs and docs."""

    @property
    def marker(self) -> str | None:
        """What stands before a call and nowhere else; None without such a thing."""

    @property
    def short_ids(self) -> bool:
        """Whether ids of calls are nine letters and digits, as Mistral's templates demand."""

    def grammar(self, tools: Sequence[ToolSchema], *, forced: bool, several: bool, marker: str) -> str | None:
        """The output's grammar in Lark syntax; None where nothing can be held to it.

        Args:
            forced: whether it must be a call, or calls; else any text may be, with calls in it.
            several: whether there may be more than one.
            marker: what stands for the marker in the grammar: a quoted text, or a special token.
        """

    def parser(self, names: Sequence[str]) -> Parser:
        """A parser of one choice."""


def quoted(text: str) -> str:
    """A text as a literal of the grammar."""
    return json.dumps(text, ensure_ascii=False)


def call_rules(tools: Sequence[ToolSchema], body: Callable[[str], tuple[str, str]]) -> str:
    """Rule `call` of the grammar: one of the tools with its arguments.

    Args:
        body: of a tool's name, what stands before and behind the arguments.
    """
    rules = ["call: " + " | ".join(f"call_{index}" for index in range(len(tools)))]
    for index, tool in enumerate(tools):
        before, behind = body(tool.name)
        schema = {"x-guidance": JSON_STYLE, **tool.parameters}
        rules.append(f"call_{index}: {quoted(before)} args_{index}" + (f" {quoted(behind)}" if behind else ""))
        rules.append(f"args_{index}: %json {json.dumps(schema, ensure_ascii=False)}")
    return "\n".join(rules) + "\n"


def lark(*rules: str) -> str:
    """A grammar of these rules."""
    return "\n".join(rules)


ANY_TEXT = r"TEXT: /(.|\n)*/"
