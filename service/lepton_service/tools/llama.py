"""Llama 3.x: the whole answer is `{"name": "f", "parameters": {...}}`, perhaps behind `<|python_tag|>`; several calls
are separated by `; `. Nothing but its beginning tells a call from an answer that is JSON."""

from collections.abc import Sequence

from lepton_service.tools.call_object import CallObject
from lepton_service.tools.formats import ToolSchema, call_rules, lark
from lepton_service.tools.parsing import CharacterParser, Parser
from lepton_service.tools.pieces import Piece, Text

TAG = "<|python_tag|>"


class LlamaFormat:
    """See the module."""

    name = "llama"
    marker: str | None = None
    short_ids = False

    def grammar(self, tools: Sequence[ToolSchema], *, forced: bool, several: bool, marker: str) -> str | None:
        """See `ToolFormat.grammar`: an answer that may be text is held to nothing."""
        if not forced:
            return None
        rules = call_rules(tools, lambda name: (f'{{"name": "{name}", "parameters": ', "}"))
        return lark("start: call" + (' ("; " call)*' if several else ""), rules)

    def parser(self, names: Sequence[str]) -> Parser:
        """See `ToolFormat.parser`."""
        return _Parser(names)


class _Parser(CharacterParser):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._raw = ""
        self._call: CallObject | None = None
        self._text = False

    def feed(self, character: str) -> list[Piece]:
        """See `CharacterParser.feed`."""
        if self._text:
            return [Text(character)]
        call = self._call
        if call is not None and not call.done:
            return self._in_call(call, character)
        self._raw += character
        if call is not None:
            return self._behind()
        begun = self._raw.lstrip()
        if not begun or TAG.startswith(begun):
            return []
        begun = begun.removeprefix(TAG).lstrip()
        if begun == "":
            return []
        if begun == "{":
            self._call = CallObject(self._names)
            return self._call.push("{")
        return self._give_up()

    def _in_call(self, call: CallObject, character: str) -> list[Piece]:
        pieces = call.push(character)
        self._raw = "" if call.begun else self._raw + character
        if call.failed:
            if call.begun:
                self._raw = character
            return [*pieces, *self._give_up()]
        return pieces

    def _behind(self) -> list[Piece]:
        """Behind a call: a semicolon and another one, or text."""
        begun = self._raw.lstrip()
        if begun in ("", ";"):
            return []
        if begun[0] == ";" and not (rest := begun[1:].lstrip()):
            return []
        if begun[0] == ";" and rest == "{":
            self._call = CallObject(self._names)
            return self._call.push("{")
        return self._give_up()

    def _give_up(self) -> list[Piece]:
        self._text = True
        held, self._raw = self._raw, ""
        return [Text(held)]

    def finish(self) -> list[Piece]:
        """See `Parser.finish`: white space and a last semicolon behind a call belong to it."""
        call, held = self._call, self._raw
        self._call, self._raw = None, ""
        if not held or (call is not None and (call.begun or call.done)):
            return []
        return [Text(held)]
