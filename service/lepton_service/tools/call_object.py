"""A call as a JSON object, `{"name": "f", "arguments": {...}}`, read a character at a time."""

import json
from collections.abc import Collection
from enum import Enum, auto

from lepton_service.tools.pieces import Arguments, CallBegins, CallEnds, Piece

SPACE = frozenset(" \t\r\n")
NAME = "name"
ARGUMENT_KEYS = frozenset({"arguments", "parameters"})


class _At(Enum):
    """What is expected next."""

    OBJECT = auto()
    FIRST_KEY = auto()
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_VALUE = auto()
    AFTER_VALUE = auto()


class CallObject:
    """Reads one object. Nothing is told before the name of a known tool and an opening brace of arguments are there, so
    that text which merely resembles a call can still be taken for text.

    Attributes:
        begun: whether a call has been told. done: the object is complete. failed: it is no call, or no JSON.

    Args:
        names: of the tools that may be called.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._at = _At.OBJECT
        self._string = ""
        self._key = ""
        self._name: str | None = None
        self._kept: list[str] = []  # arguments that came before the name
        self._had_arguments = False
        self._depth = 0
        self._quoted = self._escaped = self._scalar = False
        self._value: list[str] = []
        self.begun = self.done = self.failed = False

    def push(self, character: str) -> list[Piece]:
        """Take in the next character, unless `done` or `failed`; what is certain with it."""
        at = self._at
        if at is _At.IN_KEY:
            return self._in_key(character)
        if at is _At.IN_VALUE:
            return self._in_value(character)
        if character in SPACE:
            return []
        if at is _At.OBJECT and character == "{":
            self._at = _At.FIRST_KEY
        elif at in (_At.FIRST_KEY, _At.KEY) and character == '"':
            self._at, self._string, self._escaped = _At.IN_KEY, '"', False
        elif at is _At.COLON and character == ":":
            self._at = _At.VALUE
        elif at is _At.VALUE:
            return self._begin_value(character)
        elif at is _At.AFTER_VALUE and character == ",":
            self._at = _At.KEY
        elif at is _At.AFTER_VALUE and character == "}" and self._name is not None:
            self.done = True
            return [*self._begin(), CallEnds()]
        else:
            self.failed = True
        return []

    def _in_key(self, character: str) -> list[Piece]:
        self._string += character
        if not self._ends_string(character):
            return []
        key = _string(self._string)
        repeated = (key == NAME and self._name is not None) or (key in ARGUMENT_KEYS and self._had_arguments)
        if key is None or repeated:
            self.failed = True
            return []
        self._key, self._at = key, _At.COLON
        return []

    def _ends_string(self, character: str) -> bool:
        ends = character == '"' and not self._escaped
        self._escaped = character == "\\" and not self._escaped
        return ends

    def _begin_value(self, character: str) -> list[Piece]:
        wanted = '"' if self._key == NAME else "{" if self._key in ARGUMENT_KEYS else None
        if (wanted is not None and character != wanted) or character in ",:}]":
            self.failed = True
            return []
        self._at, self._value = _At.IN_VALUE, []
        self._quoted, self._escaped = character == '"', False
        self._depth = 1 if character in "{[" else 0
        self._scalar = not self._quoted and not self._depth
        self._had_arguments = self._had_arguments or self._key in ARGUMENT_KEYS
        return self._keep(character)

    def _in_value(self, character: str) -> list[Piece]:
        if self._scalar:
            if character in SPACE or character in ",}":
                self._at = _At.AFTER_VALUE
                return self.push(character)
            self.failed = character in '"{[:]'
            return []
        ended = False
        if self._quoted:
            if self._ends_string(character):
                self._quoted = False
                ended = self._depth == 0
        elif character == '"':
            self._quoted, self._escaped = True, False
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            ended = self._depth == 0
        pieces = self._keep(character)
        return [*pieces, *self._end_value()] if ended else pieces

    def _keep(self, character: str) -> list[Piece]:
        if self._key == NAME:
            self._value.append(character)
        elif self._key in ARGUMENT_KEYS:
            if self._name is not None:
                return [*self._begin(), Arguments(character)]
            self._kept.append(character)
        return []

    def _end_value(self) -> list[Piece]:
        self._at = _At.AFTER_VALUE
        if self._key == NAME:
            name = _string("".join(self._value))
            if name not in self._names:
                self.failed = True
                return []
            self._name = name
            if self._had_arguments:
                return self._begin()
        return []

    def _begin(self) -> list[Piece]:
        """Tell of the call, once."""
        if self.begun or self._name is None:
            return []
        self.begun = True
        kept = "".join(self._kept) if self._had_arguments else "{}"
        return [CallBegins(self._name), Arguments(kept)]


def _string(text: str) -> str | None:
    """What a JSON string says; None if it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
