"""How fast the queue drains, and so when there will be room in it."""

HALF_LIFE_SECONDS = 10.0
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 60.0
DEFAULT_SECONDS = 1.0


class DrainRate:
    """Requests and tokens that leave the queue for each second in which something waits.

    Exponentially decaying sums: what was ten seconds ago counts half. Time in which nothing waits does not count, for
    then the queue drains no faster than it fills.
    """

    def __init__(self) -> None:
        self._requests = self._tokens = self._seconds = 0.0
        self._now: float | None = None
        self._busy = False

    def tick(self, now: float, busy: bool) -> None:
        """Time has passed until now, in `time.monotonic` seconds; busy tells whether something waits from now on."""
        if self._now is not None and self._busy and now > self._now:
            passed = now - self._now
            decay = 0.5 ** (passed / HALF_LIFE_SECONDS)
            self._requests *= decay
            self._tokens *= decay
            self._seconds = self._seconds * decay + passed
        self._now, self._busy = now, busy

    def left(self, tokens: int) -> None:
        """A request with a prompt of so many tokens has left the queue."""
        if self._busy:
            self._requests += 1
            self._tokens += tokens

    def wait(self, requests: float, tokens: float = 0.0) -> float | None:
        """Seconds in which so many requests and tokens leave the queue; None before anything was measured."""
        if not self._seconds:
            return None
        # Of a queue that nothing has left, all that is known is that it takes longer than it has been watched.
        by_requests = requests * self._seconds / max(self._requests, 1.0)
        by_tokens = tokens * self._seconds / self._tokens if self._tokens else 0.0
        return max(by_requests, by_tokens)

    def least_wait(self, requests: float, tokens: float) -> float:
        """Seconds in which so many requests, or so many tokens, leave the queue; 0 before anything was measured."""
        if not (self._seconds and self._requests and self._tokens):
            return 0.0
        return min(requests / self._requests, tokens / self._tokens) * self._seconds

    def retry_after(self, requests: float, tokens: float = 0.0) -> float:
        """What to tell a client: the wait, a second before anything was measured, never below 0.1 nor above 60."""
        return bounded(self.wait(requests, tokens))


def bounded(seconds: float | None) -> float:
    """A delay to tell a client; None is a delay that is not known."""
    return min(max(DEFAULT_SECONDS if seconds is None else seconds, SHORTEST_SECONDS), LONGEST_SECONDS)
