"""Mistral: `[TOOL_CALLS]`, a special token, and a list of calls: `[{"name": "f", "arguments": {...}}, ...]`."""

from collections.abc import Sequence
from enum import Enum, auto

from lepton_service.tools.call_object import SPACE, CallObject
from lepton_service.tools.formats import ANY_TEXT, ToolSchema, call_rules, lark
from lepton_service.tools.parsing import CharacterParser, MarkerSearch, Parser
from lepton_service.tools.pieces import Piece, Text

MARK = "[TOOL_CALLS]"


class MistralFormat:
    """See the module."""

    name = "mistral"
    marker: str | None = MARK
    short_ids = True

    def grammar(self, tools: Sequence[ToolSchema], *, forced: bool, several: bool, marker: str) -> str:
        """See `ToolFormat.grammar`."""
        rules = call_rules(tools, lambda name: (f'{{"name": "{name}", "arguments": ', "}"))
        calls = 'calls: "[" call (", " call)* "]"' if several else 'calls: "[" call "]"'
        if forced:
            return lark(f"start: {marker} calls", calls, rules)
        if marker.startswith("<"):
            return lark(f"start: TEXT | TEXT {marker} calls", calls, ANY_TEXT, rules)
        return lark("start: head calls | tail", f"head[lazy]: TEXT {marker}", "tail: TEXT", calls, ANY_TEXT, rules)

    def parser(self, names: Sequence[str]) -> Parser:
        """See `ToolFormat.parser`."""
        return _Parser(names)


class _At(Enum):
    """What comes next."""

    TEXT = auto()
    LIST = auto()
    CALL = auto()
    BEHIND_CALL = auto()


class _Parser(CharacterParser):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._search = MarkerSearch(MARK)
        self._at = _At.TEXT
        self._call = CallObject(self._names)
        self._raw = ""

    def feed(self, character: str) -> list[Piece]:
        """See `CharacterParser.feed`."""
        if self._at is _At.TEXT:
            pieces, found = self._search.feed(character)
            if found:
                self._at, self._raw = _At.LIST, MARK
            return pieces
        if self._at is _At.CALL:
            return self._in_call(character)
        if character in SPACE:
            self._raw += character
            return []
        if self._at is _At.LIST and character == "[":
            self._begin(self._raw + character)
            return []
        if self._at is _At.BEHIND_CALL and character == ",":
            self._begin("")
            return []
        if self._at is _At.BEHIND_CALL:
            self._search.open_gap()
            again, self._raw, self._at = self._raw, "", _At.TEXT
            return [] if character == "]" else self.push(again + character)
        return self._give_up(character)

    def _begin(self, raw: str) -> None:
        self._at, self._raw, self._call = _At.CALL, raw, CallObject(self._names)

    def _in_call(self, character: str) -> list[Piece]:
        call = self._call
        pieces = call.push(character)
        if call.failed:
            if call.begun:
                self._raw = ""
            return [*pieces, *self._give_up(character)]
        self._raw = "" if call.begun else self._raw + character
        if call.done:
            self._at = _At.BEHIND_CALL
        return pieces

    def _give_up(self, character: str) -> list[Piece]:
        held, self._raw, self._at = self._raw, "", _At.TEXT
        return [Text(held), *self.feed(character)]

    def finish(self) -> list[Piece]:
        """See `Parser.finish`."""
        at, held = self._at, self._raw
        self._at, self._raw = _At.TEXT, ""
        if at is _At.TEXT:
            return self._search.finish()
        return [Text(held)] if held and at is not _At.BEHIND_CALL else []
