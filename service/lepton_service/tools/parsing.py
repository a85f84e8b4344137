"""What the parsers of the formats have in common. Every result is the same however the text is cut into pieces."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Protocol

from lepton_service.tools.pieces import Piece, Text, joined


class Parser(Protocol):
    """Reads the output of one choice as it grows."""

    def push(self, text: str) -> list[Piece]:
        """Take in new text; what is certain with it."""

    def finish(self) -> list[Piece]:
        """What is still held back, when the output has ended."""


class CharacterParser(ABC):
    """A parser that is fed a character at a time."""

    def push(self, text: str) -> list[Piece]:
        """See `Parser.push`."""
        pieces: list[Piece] = []
        for character in text:
            pieces += self.feed(character)
        return joined(pieces)

    @abstractmethod
    def feed(self, character: str) -> list[Piece]:
        """Take in the next character."""

    @abstractmethod
    def finish(self) -> list[Piece]:
        """See `Parser.finish`."""


class MarkerSearch:
    """Text up to a marker: only its longest suffix that may still become the marker is held back.

    White space behind a call (`gap`) belongs to the text that follows, if any does; in front of a marker it is nothing.
    """

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._held = ""
        self._gap = ""
        self._in_gap = False

    def open_gap(self) -> None:
        """A call has ended."""
        self._in_gap = True

    def feed(self, character: str) -> tuple[list[Piece], bool]:
        """Take in the next character: the text that is certain, and whether the marker is complete."""
        if self._in_gap and not self._held and character.isspace():
            self._gap += character
            return [], False
        self._held += character
        certain = 0
        while not self._marker.startswith(self._held[certain:]):
            certain += 1
        text, self._held = self._held[:certain], self._held[certain:]
        pieces: list[Piece] = []
        if text:
            pieces = [Text(self._gap + text)]
            self._gap, self._in_gap = "", False
        if self._held != self._marker:
            return pieces, False
        self._held = self._gap = ""
        self._in_gap = False
        return pieces, True

    def finish(self) -> list[Piece]:
        """What is held back."""
        text = self._gap + self._held if self._held else ""
        self._held = self._gap = ""
        return [Text(text)] if text else []


class SpecialTokens:
    """Leaves the texts of special tokens out of the text of an answer, in front of which a parser has read its marker.

    Args:
        texts: of the tokens.
    """

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = frozenset(texts)
        self._beginnings = frozenset(text[:length] for text in texts for length in range(1, len(text)))
        self._held = ""

    def push(self, text: str) -> str:
        """Take in new text; what is certain to stay of it."""
        kept = []
        for character in text:
            self._held += character
            while self._held and self._held not in self._beginnings:
                if self._held in self._texts:
                    self._held = ""
                else:
                    kept.append(self._held[0])
                    self._held = self._held[1:]
        return "".join(kept)

    def finish(self) -> str:
        """What is held back."""
        held, self._held = self._held, ""
        return held
