"""Token ids to text as they come, never ending inside a character."""

from collections.abc import Sequence

from lepton_engine.text.tokenizer import Tokenizer

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
# A UTF-8 character has at most four bytes, so at most three bytes of an unfinished one can be pending. Byte-level
# decoders show them as one U+FFFD, byte-fallback decoders as one for each byte.
_MAX_PENDING = 3
_MAX_WINDOW = 24
_PROMPT_TAIL = 8


class Detokenizer:
    """Text of one sequence, token by token.

    A window of recent tokens is decoded before and after each token, and the difference is the new text: so the joins
    between tokens (spaces, multi-byte characters) come out as in decoding everything at once. The window begins in the
    prompt, where the text of the output joins on, and moves on at character boundaries. Unlike
    `tokenizers.decoders.DecodeStream`, which works the same way, it releases finished characters in front of an
    unfinished one, survives byte-fallback runs that turn out not to be UTF-8, and stays small on endless invalid bytes.

    Args:
        tokenizer: decodes the window.
        prompt_token_ids: what stands before the output.
        skip_special_tokens: whether special tokens are left out.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int], skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        tail = self._tail(prompt_token_ids)
        begun = self._begun(tail)
        self._window = tail[: len(tail) - begun]
        self._read = len(self._window)  # the window's tokens before this index end at a character boundary
        self._text = self._decode(self._window)
        self._released = len(self._text)  # characters of the window's text that are out already
        self._in_prompt = False
        for token_id in tail[len(tail) - begun :]:
            self.feed(token_id)
        # What a character that the prompt leaves unfinished looks like now belongs to the prompt's text.
        self._in_prompt = begun > 0
        self._released = len(self._text)

    def feed(self, token_id: int) -> str:
        """The text that is certain with one more token; empty in mid-character."""
        if token_id in self._skipped or token_id >= self._tokenizer.vocab_size:
            return ""
        self._window.append(token_id)
        text = self._decode(self._window)
        if not text.startswith(self._text[: self._released]):
            text = self._restart(text)
        pending = min(len(text) - len(text.rstrip(_UNKNOWN)), _MAX_PENDING)
        certain = max(len(text) - pending, self._released)
        new = text[self._released : certain]
        self._text, self._released = text, certain
        self._in_prompt = self._in_prompt and not new
        if pending == 0 and new:
            self._move(self._read)
            self._read = len(self._window)
        elif len(self._window) > _MAX_WINDOW:
            self._shrink()
        return new

    def flush(self) -> str:
        """What is left at the end: the bytes of an unfinished character, as U+FFFD."""
        rest = self._text[self._released :]
        self._released = len(self._text)
        return rest

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=False) if token_ids else ""

    def _tail(self, prompt_token_ids: Sequence[int]) -> list[int]:
        """The prompt's last visible tokens, from a character boundary on."""
        size = self._tokenizer.vocab_size
        length = _PROMPT_TAIL
        while True:
            tail = [i for i in prompt_token_ids[-length:] if i not in self._skipped and 0 <= i < size]
            text = self._decode(tail)
            if (text and not text.startswith(_UNKNOWN)) or length >= len(prompt_token_ids):
                return tail
            length *= 4

    def _begun(self, tail: list[int]) -> int:
        """How many tokens at the end of the prompt begin a character that they do not finish."""
        counts = range(min(_MAX_PENDING, len(tail)) + 1)
        return next((count for count in counts if not self._decode(tail[: len(tail) - count]).endswith(_UNKNOWN)), 0)

    def _restart(self, text: str) -> str:
        """Account for a text that contradicts what is out already.

        Either a character that the prompt's last tokens began has been finished, and now shows in place of U+FFFD; or a
        run of byte-fallback tokens, which decodes to U+FFFD as a whole unless all of it is UTF-8, is not UTF-8 (any
        more, or until its next character is finished): then only the tokens behind the last boundary are looked at.
        """
        if self._in_prompt:
            self._in_prompt, self._read = False, 0  # the prompt's end was no boundary
            self._released = _common_length(self._text[: self._released], text)
            return text
        self._window, self._read, self._text, self._released = self._window[self._read :], 0, "", 0
        return self._decode(self._window)

    def _move(self, start: int) -> None:
        """Drop the tokens before `start`, if those that stay have text, so that no leading space is stripped anew."""
        rest = self._window[start:]
        if start == 0 or not (text := self._decode(rest)):
            return
        self._window, self._text, self._released = rest, text, len(text)

    def _shrink(self) -> None:
        """Drop old tokens of a window that has not reached a character boundary for long, without a change of text."""
        for start in range(len(self._window) - _MAX_PENDING, 0, -1):
            head, tail = self._decode(self._window[:start]), self._decode(self._window[start:])
            if tail and head + tail == self._text and len(head) <= self._released:
                self._window, self._text, self._read = self._window[start:], tail, 0
                self._released -= len(head)
                return


def _common_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginnings."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
