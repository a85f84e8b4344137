"""The queue of sequences that wait to run: by priority, fair between tenants, then in the order of their arrival."""

import heapq
from bisect import insort
from itertools import count

from lepton_engine.core.request import Sequence
from lepton_engine.core.virtual_counters import Lane, VirtualCounters


class Line:
    """The sequences of one tenant, the earliest first, with removal in O(1) amortised, whatever the length.

    Attributes:
        tokens: of their prompts.
    """

    def __init__(self) -> None:
        # The counter keeps equal orders apart: a sequence that left and came back has two entries for a while.
        self._heap: list[tuple[tuple[int, int, int], int, Sequence]] = []
        self._counter = count()
        self._members: set[Sequence] = set()
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._members

    def push(self, sequence: Sequence) -> None:
        """Add a sequence that is not in the line."""
        self._members.add(sequence)
        self.tokens += sequence.num_prompt
        heapq.heappush(self._heap, (sequence.order, next(self._counter), sequence))

    def discard(self, sequence: Sequence) -> None:
        """Remove a sequence if it is here; its heap entry goes later, before half the heap is such entries."""
        if sequence in self._members:
            self._members.remove(sequence)
            self.tokens -= sequence.num_prompt
            if len(self._heap) > 2 * len(self._members) + 64:
                self._heap = [entry for entry in self._heap if entry[2] in self._members]
                heapq.heapify(self._heap)

    def head(self) -> Sequence | None:
        """The earliest sequence."""
        while self._heap and self._heap[0][2] not in self._members:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None


class FairQueue:
    """Of the best priority that waits, the tenant that was served least; of it, the earliest sequence.

    Every operation takes O(log n), amortised: a tenant's counter only grows, so that its place among the others is put
    right when it comes up.
    """

    def __init__(self, counters: VirtualCounters) -> None:
        self._counters = counters
        self._levels: dict[int, dict[str, Line]] = {}
        self._priorities: list[int] = []
        # An entry for each line of a level, and some of lines that have gone.
        self._least: dict[int, list[tuple[float, str]]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def tenants(self, priority: int) -> set[str]:
        """Who waits at a priority."""
        return set(self._levels.get(priority, ()))

    def ahead(self, lane: Lane) -> tuple[int, int]:
        """How many sequences of a priority and tenant wait, and the tokens of their prompts."""
        line = self._levels.get(lane[0], {}).get(lane[1])
        return (0, 0) if line is None else (len(line), line.tokens)

    def push(self, sequence: Sequence) -> None:
        """Add a sequence that is not in the queue."""
        priority, tenant = lane = sequence.request.lane
        if priority not in self._levels:
            self._levels[priority], self._least[priority] = {}, []
            insort(self._priorities, priority)
        level = self._levels[priority]
        if tenant not in level:
            level[tenant] = Line()
            self._counters.join(lane)
            heapq.heappush(self._least[priority], (self._counters.of(lane), tenant))
        level[tenant].push(sequence)
        self._size += 1

    def discard(self, sequence: Sequence) -> None:
        """Remove a sequence if it is here."""
        priority, tenant = sequence.request.lane
        level = self._levels.get(priority, {})
        line = level.get(tenant)
        if line is None or sequence not in line:
            return
        line.discard(sequence)
        self._size -= 1
        if line:
            return
        del level[tenant]
        if not level:
            del self._levels[priority], self._least[priority]
            self._priorities.remove(priority)
        elif len(self._least[priority]) > 2 * len(level) + 64:
            self._least[priority] = [(self._counters.of((priority, name)), name) for name in level]
            heapq.heapify(self._least[priority])

    def take(self, sequence: Sequence) -> None:
        """Remove a sequence that is to run."""
        self._counters.advance(sequence.request.lane)
        self.discard(sequence)

    def head(self) -> Sequence | None:
        """The sequence that is to run next."""
        if not self._priorities:
            return None
        priority = self._priorities[0]
        level, least = self._levels[priority], self._least[priority]
        while True:
            noted, tenant = least[0]
            if tenant not in level:
                heapq.heappop(least)
            elif (served := self._counters.of((priority, tenant))) > noted:
                heapq.heapreplace(least, (served, tenant))
            else:
                return level[tenant].head()
