"""The queue of sequences that wait to run."""

import heapq
from itertools import count

from lepton_engine.core.request import Sequence


class WaitingQueue:
    """A priority queue with removal in O(1) amortised, whatever its length."""

    def __init__(self) -> None:
        # The counter keeps equal orders apart: a sequence that left and came back has two entries for a while.
        self._heap: list[tuple[tuple[int, int, int], int, Sequence]] = []
        self._counter = count()
        self._members: set[Sequence] = set()

    def __len__(self) -> int:
        return len(self._members)

    def push(self, sequence: Sequence) -> None:
        """Add a sequence that is not in the queue."""
        self._members.add(sequence)
        heapq.heappush(self._heap, (sequence.order, next(self._counter), sequence))

    def discard(self, sequence: Sequence) -> None:
        """Remove a sequence if it is here; its heap entry goes later, before half the heap is such entries."""
        if sequence in self._members:
            self._members.remove(sequence)
            if len(self._heap) > 2 * len(self._members) + 64:
                self._heap = [entry for entry in self._heap if entry[2] in self._members]
                heapq.heapify(self._heap)

    def head(self) -> Sequence | None:
        """The sequence that is to run next."""
        while self._heap and self._heap[0][2] not in self._members:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None
