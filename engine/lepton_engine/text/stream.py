"""The text of one output sequence as it grows, ended by stop strings."""

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_engine.sampling_params import SamplingParams
from lepton_engine.text.detokenizer import Detokenizer
from lepton_engine.text.stop_strings import StopMatcher
from lepton_engine.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TextUpdate:
    """What some tokens brought.

    Attributes:
        text: new text that is certain to belong to the output.
        token_count: how many of the pushed tokens belong to the output; fewer than pushed only after a stop string.
        stop: the stop string that ended the output, None while it goes on.
    """

    text: str
    token_count: int
    stop: str | None = None


class TextStream:
    """Token ids in, text out: never part of a character, never anything behind the first stop string.

    The stop string whose end comes first ends the output (of several that end at once, the longest); a stop string that
    ends within the first `min_tokens` tokens' text does not count. Only the longest suffix that may still become a stop
    string, and the bytes of an unfinished character, are held back.

    Args:
        tokenizer: of the model.
        params: stop, include_stop_str_in_output, min_tokens, skip_special_tokens and detokenize are read.
        prompt_token_ids: what the output continues.
    """

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams, prompt_token_ids: Sequence[int]) -> None:
        self._params = params
        self._decoder = (
            Detokenizer(tokenizer, prompt_token_ids, params.skip_special_tokens) if params.detokenize else None
        )
        self._matcher = StopMatcher.of(tuple(params.stop)) if params.stop else None
        self._state = 0
        self._held = ""
        self._token_count = 0
        self._stop: str | None = None

    def push(self, token_ids: Sequence[int], ended_by_token: bool = False) -> TextUpdate:
        """Take in generated tokens.

        Args:
            token_ids: the next tokens, in order.
            ended_by_token: the last of them is the stop token (or end of sequence) that ends the output. It counts as a
                token of the output, its text only with include_stop_str_in_output.

        Returns:
            the new text. After a stop string has been found, further tokens bring nothing and count as none.
        """
        if self._decoder is None:
            return TextUpdate("", len(token_ids))
        if self._stop is not None:
            return TextUpdate("", 0, self._stop)
        pieces: list[str] = []
        for index, token_id in enumerate(token_ids):
            if self._stop is not None:
                return TextUpdate("".join(pieces), index, self._stop)
            self._token_count += 1
            if ended_by_token and index == len(token_ids) - 1 and not self._params.include_stop_str_in_output:
                continue
            pieces.append(self._accept(self._decoder.feed(token_id), self._token_count > self._params.min_tokens))
        return TextUpdate("".join(pieces), len(token_ids), self._stop)

    def finish(self) -> str:
        """All that is still held back, when the output has ended for whatever reason; empty after a stop string."""
        if self._decoder is None or self._stop is not None:
            return ""
        text = self._accept(self._decoder.flush(), self._token_count > self._params.min_tokens)
        if self._stop is None:
            text += self._held
        self._held = ""
        return text

    @property
    def stop(self) -> str | None:
        """The stop string that ended the output, None if none has."""
        return self._stop

    def _accept(self, new: str, may_stop: bool) -> str:
        """Add new text to what is held back; the part of both that is certain."""
        if self._matcher is None:
            return new
        matcher, state = self._matcher, self._state
        for index, character in enumerate(new):
            state = matcher.step(state, character)
            if may_stop and matcher.match[state]:
                text = self._held + new[: index + 1]
                start = len(text) - matcher.match[state]
                self._stop = text[start:]
                self._held = ""
                return text if self._params.include_stop_str_in_output else text[:start]
        self._state = state
        text = self._held + new
        certain = len(text) - matcher.held[state]
        self._held = text[certain:]
        return text[:certain]
