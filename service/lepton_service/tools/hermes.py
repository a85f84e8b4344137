r"""Hermes and Qwen: `<tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>`, once for each call, text before."""

from collections.abc import Sequence

from lepton_service.tools.call_object import SPACE, CallObject
from lepton_service.tools.formats import ANY_TEXT, ToolSchema, call_rules, lark
from lepton_service.tools.parsing import CharacterParser, MarkerSearch, Parser
from lepton_service.tools.pieces import Piece, Text

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesFormat:
    """See the module."""

    name = "hermes"
    marker: str | None = OPEN
    short_ids = False

    def grammar(self, tools: Sequence[ToolSchema], *, forced: bool, several: bool, marker: str) -> str:
        """See `ToolFormat.grammar`."""
        rules = call_rules(tools, lambda name: (f'\n{{"name": "{name}", "arguments": ', f"}}\n{CLOSE}"))
        if forced:
            more = f' ("\\n" {marker} call)*' if several else ""
            return lark(f"start: {marker} call{more}", rules)
        if marker.startswith("<"):  # a special token, which no text holds
            return lark("start: (TEXT " + marker + " call)* TEXT", ANY_TEXT, rules)
        return lark("start: (head call)* tail", f"head[lazy]: TEXT {marker}", "tail: TEXT", ANY_TEXT, rules)

    def parser(self, names: Sequence[str]) -> Parser:
        """See `ToolFormat.parser`."""
        return _Parser(names)


class _Parser(CharacterParser):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._search = MarkerSearch(OPEN)
        self._call: CallObject | None = None
        self._raw = ""  # of what may be a call, while it may still be text; then of what may close it

    def feed(self, character: str) -> list[Piece]:
        """See `CharacterParser.feed`."""
        call = self._call
        if call is None:
            pieces, found = self._search.feed(character)
            if found:
                self._call, self._raw = CallObject(self._names), OPEN
            return pieces
        if call.done:
            return self._close(character)
        pieces = call.push(character)
        if call.failed:
            text = "" if call.begun else self._raw
            self._call, self._raw = None, ""
            return [*pieces, Text(text), *self.feed(character)]
        self._raw = "" if call.begun else self._raw + character
        return pieces

    def _close(self, character: str) -> list[Piece]:
        if not self._raw and character in SPACE:
            return []
        self._raw += character
        if CLOSE.startswith(self._raw):
            if self._raw == CLOSE:
                self._end_call()
            return []
        # The model has left the end mark out; what stands in its place is text, or another call.
        again = self._raw
        self._end_call()
        return self.push(again)

    def _end_call(self) -> None:
        self._call, self._raw = None, ""
        self._search.open_gap()

    def finish(self) -> list[Piece]:
        """See `Parser.finish`."""
        if self._call is None:
            return self._search.finish()
        held = "" if self._call.begun else self._raw
        self._call, self._raw = None, ""
        return [Text(held)] if held else []
