"""Single tokens as OpenAI's answers show them: their text and their bytes."""

import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lepton_service.engine_api import Tokenizer

REPLACEMENT = "\ufffd"

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@runtime_checkable
class Vocabulary(Protocol):
    """A tokenizer that tells how its vocabulary writes a token."""

    def id_to_token(self, token_id: int) -> str | None:
        """The token; None if there is none of this id."""


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level vocabularies write bytes (GPT-2's `bytes_to_unicode`, reversed)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in plain}
    others = (byte for byte in range(256) if byte not in set(plain))
    letters.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return letters


_ALPHABET = _byte_alphabet()


class TokenTexts:
    """Texts and bytes of a tokenizer's tokens, each decoded once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, list[int] | None]] = {}
        # What stands before a token decides whether a decoder drops its leading space.
        self._anchor: Sequence[int] = tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._before = tokenizer.decode(list(self._anchor), skip_special_tokens=False)

    def text(self, token: int) -> str:
        """The token's text; bytes that are no character of their own are U+FFFD."""
        return self._piece(token)[0]

    def bytes(self, token: int) -> list[int] | None:
        """The token's bytes; None where the vocabulary does not tell."""
        return self._piece(token)[1]

    def _piece(self, token: int) -> tuple[str, list[int] | None]:
        found = self._known.get(token)
        if found is None:
            decoded = self._tokenizer.decode([*self._anchor, token], skip_special_tokens=False)
            text = decoded.removeprefix(self._before)
            found = self._known[token] = (text, self._bytes(token, text))
        return found

    def _bytes(self, token: int, text: str) -> list[int] | None:
        if REPLACEMENT not in text:
            return list(text.encode())
        written = self._tokenizer.id_to_token(token) if isinstance(self._tokenizer, Vocabulary) else None
        if not written:
            return None
        match = _BYTE_TOKEN.fullmatch(written)
        if match:
            return [int(match[1], 16)]
        found = [_ALPHABET.get(letter) for letter in written]
        return None if None in found else [byte for byte in found if byte is not None]
