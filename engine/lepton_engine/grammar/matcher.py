"""A compiled grammar, and its state in one sequence."""

from __future__ import annotations  # llguidance's classes are named in annotations only

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lepton_engine.errors import InvalidRequestError, LeptonError

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_REASON = 300


class Grammar:
    """A grammar over the model's tokens, of which every sequence gets a matcher of its own.

    Attributes:
        field: of the request that it was made of. words: int32 words of a mask.

    Args:
        start: a matcher in its initial state, which is copied and not used itself.
        forget: called when a matcher fails, with this grammar.
    """

    def __init__(
        self,
        start: LLMatcher,
        *,
        field: str,
        words: int,
        eos_token_ids: Sequence[int],
        forget: Callable[[Grammar], None] = lambda grammar: None,
    ) -> None:
        self._start = start
        self.field = field
        self.words = words
        self.eos_token_ids = np.array(eos_token_ids, dtype=np.int64)
        self._forget = forget

    def matcher(self, *, ignore_eos: bool = False) -> Matcher:
        """The state at the beginning of an output."""
        return Matcher(self, self._start.deep_copy(), ignore_eos)

    def forget(self) -> None:
        """Take the grammar out of the cache: what its copies share (the lexer's states) has reached a limit."""
        self._forget(self)


class Matcher:
    """Where one sequence stands in its grammar: it advances with every token that is confirmed.

    Args:
        ignore_eos: whether tokens that end the output by themselves are forbidden.
    """

    def __init__(self, grammar: Grammar, matcher: LLMatcher, ignore_eos: bool) -> None:
        self.grammar = grammar
        self.native = matcher
        self._ignore_eos = ignore_eos

    def advance(self, token_id: int) -> bool:
        """Take in a token that the mask allowed; whether the output is complete, so that nothing can follow."""
        self.native.consume_token(token_id)
        return self.native.is_stopped() and not self.native.is_error()

    def accepted(self, draft: Sequence[int]) -> int:
        """How many tokens of a draft the grammar allows, up to one that ends the output."""
        ends = self.grammar.eos_token_ids
        tokens = list(draft)
        end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        return self.native.validate_tokens(tokens[:end]) if end and not self.native.is_stopped() else 0

    def fill(self, mask: np.ndarray, draft: Sequence[int] = ()) -> None:
        """Write which tokens may come next, and which behind each token of a draft.

        Args:
            mask: int32 [1 + len(draft), words], contiguous. A row of which nothing can follow, or that lies behind a
                token which is not allowed, is all zero.
        """
        mask[:] = 0
        taken = 0
        for row in range(len(draft) + 1):
            self._fill_row(mask[row])
            if row == len(draft) or self.native.is_stopped() or not self.native.try_consume_tokens([draft[row]]):
                break
            taken += 1
        if taken:
            self.native.rollback(taken)

    def _fill_row(self, mask: np.ndarray) -> None:
        self.native.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        self.tidy(mask)

    def tidy(self, mask: np.ndarray) -> None:
        """What llguidance writes on an error reads as the end of an output; here it becomes zero."""
        if self.native.is_error():
            mask[:] = 0
        elif self._ignore_eos:
            ends = self.grammar.eos_token_ids
            np.bitwise_and.at(mask, ends // 32, ~(np.int32(1) << (ends % 32).astype(np.int32)))

    def complete(self) -> bool:
        """Whether the grammar lets the output end here and nothing else: what is found out at times only by trying."""
        if not self.native.is_stopped():
            self._fill_row(np.empty(self.grammar.words, dtype=np.int32))
        return self.native.is_stopped() and not self.native.is_error()

    def failure(self, masked: bool) -> LeptonError | None:
        """Why no token may come next although the output is not complete; None where the grammar has no part in it.

        Args:
            masked: whether the request forbids tokens in other ways, too.
        """
        if self.native.is_error():
            self.grammar.forget()
            reason = reason_of(self.native.get_error())
            return InvalidRequestError(self.grammar.field, f"the output cannot go on: {reason}")
        if not masked:
            return None
        others = "allowed_token_ids, bad_words or min_tokens"
        reason = f"the output cannot go on: {others} of the request forbid every token that it allows next"
        return InvalidRequestError(self.grammar.field, reason)


def reason_of(message: str) -> str:
    """An error message of llguidance in a form for users: one line, of bounded length."""
    text = " ".join(part.strip() for part in message.replace("<non-verbose/>", "").split("\n") if part.strip())
    for found, plain in _PLAIN.items():
        text = text.replace(found, plain)
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + "..."


_PLAIN = {
    "NoExtensionBias": "it allows no text here",
    "NoExtension": "it allows no text here",
    "ParserTooComplex": "it is too ambiguous (limit of parser items)",
    "LexerTooComplex": "it is too complex (limit of lexer states)",
}
