"""How fast the engine computes, and how long a request takes at least."""

import heapq
from collections import deque

from lepton_engine.core.request import Request

WINDOW, LEAST_SAMPLES = 256, 8
LEAST_PROMPT_TOKENS = 8


class Speed:
    """The fastest steps of late: what follows from them is a time that a request hardly stays below.

    Of the last 256 steps with prompt tokens, and of the last 256 that only decode, the second fastest counts, so that
    one freak does not; None before eight such steps.
    """

    def __init__(self) -> None:
        self._prefill: deque[float] = deque(maxlen=WINDOW)  # Tokens a second.
        self._decode: deque[float] = deque(maxlen=WINDOW)  # Seconds for each token of a sequence.

    def observe(self, seconds: float, prompt_tokens: int, sampled: int, generated: int) -> None:
        """A step has run.

        Args:
            seconds: that it took. prompt_tokens: computed in it.
            sampled: sequences that a token was sampled for; generated: tokens that came of it, drafts that came true
                included.
        """
        if seconds <= 0:
            return
        if prompt_tokens >= LEAST_PROMPT_TOKENS:
            self._prefill.append(prompt_tokens / seconds)
        elif not prompt_tokens and generated:
            self._decode.append(seconds * sampled / generated)

    @property
    def prompt_tokens_per_second(self) -> float | None:
        """Of a step that computes prompts."""
        return heapq.nlargest(2, self._prefill)[1] if len(self._prefill) >= LEAST_SAMPLES else None

    @property
    def seconds_per_token(self) -> float | None:
        """Between two tokens of a sequence."""
        return heapq.nsmallest(2, self._decode)[1] if len(self._decode) >= LEAST_SAMPLES else None

    def shortest(self, request: Request, cached_tokens: int) -> float | None:
        """Seconds that a request takes on an idle engine at least, until it can have succeeded; None when unknown.

        An output may end with any token, so only those count that it has to have: the first, min_tokens, or all of
        max_tokens where nothing can end it before.
        """
        rate, step = self.prompt_tokens_per_second, self.seconds_per_token
        if rate is None:
            return None
        needed = tokens_needed(request)
        seconds = max(0, len(request.prompt) - cached_tokens) / rate
        return seconds if step is None or needed < 2 else seconds + (needed - 1) * step


def tokens_needed(request: Request) -> int:
    """The fewest tokens that a sequence of the request can end with."""
    if request.max_tokens == 0:
        return 0
    params = request.params
    endless = not request.stop_token_ids and not params.stop
    return request.max_tokens if endless else min(request.max_tokens, max(1, params.min_tokens))
