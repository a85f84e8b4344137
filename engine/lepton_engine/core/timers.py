"""Deadlines of requests, soonest first."""

import heapq
from collections.abc import Callable


class Timers:
    """A heap of (time, key); keys that are no longer wanted are dropped before they make up half of it."""

    def __init__(self, is_live: Callable[[str], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[float, str]] = []
        self._bound = 64

    def add(self, when: float, key: str) -> None:
        """Remember that `key` is due at `when`, in `time.monotonic` seconds."""
        heapq.heappush(self._heap, (when, key))
        if len(self._heap) > self._bound:
            self._heap = [entry for entry in self._heap if self._is_live(entry[1])]
            heapq.heapify(self._heap)
            self._bound = 2 * len(self._heap) + 64

    def pop_due(self, now: float) -> list[str]:
        """The live keys that are due, each once."""
        due: dict[str, None] = {}
        while self._heap and self._heap[0][0] <= now:
            key = heapq.heappop(self._heap)[1]
            if self._is_live(key):
                due[key] = None
        return list(due)

    def next_due(self) -> float | None:
        """When the next key is due; a stale key may come first."""
        return self._heap[0][0] if self._heap else None
