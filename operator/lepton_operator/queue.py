"""A queue of keys: a key is never worked on twice at once, nor queued twice; failures wait longer and longer."""

import asyncio
import heapq
import itertools
import random
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_BACKOFF = 0.2
MAX_BACKOFF = 60.0


class KeyedQueue(Generic[K]):
    """Keys that are due, and keys that become due."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}  # insertion order is the order of the queue; the value is when it came due
        self._urgent: dict[K, float] = {}  # those that come first
        self._working: set[K] = set()
        self._again: dict[K, bool] = {}  # whether urgent
        self._later: list[tuple[float, int, K]] = []
        self._when: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._count = itertools.count()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due) + len(self._urgent)

    def add(self, key: K, *, urgent: bool = False) -> None:
        """Makes a key due now.

        Args:
            urgent: before all that are not, such as a model whose load has grown among many that report progress.
        """
        if key in self._working:
            self._again[key] = self._again.get(key, False) or urgent
        elif key not in self._urgent:
            since = self._due.pop(key, None) if urgent else self._due.get(key)
            due = self._urgent if urgent else self._due
            due[key] = asyncio.get_running_loop().time() if since is None else since
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Makes a key due later; the earlier of two times counts."""
        when = asyncio.get_running_loop().time() + seconds
        if when < self._when.get(key, float("inf")):
            self._when[key] = when
            heapq.heappush(self._later, (when, next(self._count), key))
            self._wake.set()

    def failed(self, key: K) -> float:
        """Makes a key due after a time that doubles with each failure; that time."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        seconds: float = min(FIRST_BACKOFF * 2 ** min(count, 20), MAX_BACKOFF) * (0.75 + random.random() / 2)
        self.add_after(key, seconds)
        return seconds

    def succeeded(self, key: K) -> None:
        """Forgets the failures of a key."""
        self._failures.pop(key, None)

    def forget(self, key: K) -> None:
        """Forgets a key that is no more."""
        self._failures.pop(key, None)
        self._when.pop(key, None)

    async def take(self) -> tuple[K, float]:
        """The next key, and how long it was due; `done` must follow."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            while self._later and self._later[0][0] <= now:
                when, _, key = heapq.heappop(self._later)
                if self._when.get(key) == when:
                    del self._when[key]
                    self.add(key)
            if due := self._urgent or self._due:
                key = next(iter(due))
                since = due.pop(key)
                self._working.add(key)
                return key, loop.time() - since
            self._wake.clear()
            timeout = self._later[0][0] - now if self._later else None
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """Ends the work on a key."""
        self._working.discard(key)
        if key in self._again:
            self.add(key, urgent=self._again.pop(key))
