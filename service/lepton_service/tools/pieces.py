"""What a model's output is made of when it may call tools."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A call of the tool of this name begins."""

    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """The next piece of the begun call's arguments, as JSON text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallEnds:
    """The begun call is complete."""


Piece = Text | CallBegins | Arguments | CallEnds


def joined(pieces: list[Piece]) -> list[Piece]:
    """The same with neighbours of one kind put together and empty texts left out."""
    made: list[Piece] = []
    for piece in pieces:
        last = made[-1] if made else None
        if isinstance(piece, Text | Arguments) and not piece.text:
            continue
        if isinstance(piece, Text) and isinstance(last, Text):
            made[-1] = Text(last.text + piece.text)
        elif isinstance(piece, Arguments) and isinstance(last, Arguments):
            made[-1] = Arguments(last.text + piece.text)
        else:
            made.append(piece)
    return made
