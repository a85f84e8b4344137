"""Where every unfinished sequence is, and its moves: it waits, follows another, is held, or runs.

A sequence that waits or is held has no KV blocks. One that follows waits for another to compute the prefix that both
share. One that is held belongs to an isolated request and runs in steps of its own. One that runs has slots and blocks.
"""

from bisect import insort
from collections.abc import Iterable
from collections.abc import Sequence as Rows

from lepton_engine.core.fair_order import FairOrder
from lepton_engine.core.fair_queue import FairQueue
from lepton_engine.core.followers import Followers
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.request import Sequence, SequenceState
from lepton_engine.core.virtual_counters import VirtualCounters


class Places:
    """The queue, the followers, those that are held, the running list, and the slots; blocks through the KV cache.

    Attributes:
        order: of the running list. running: the sequences that run, in that order as it was when the step began.
        queued_tokens: prompt tokens of all that do not run. num_slots: that there are.
    """

    def __init__(self, cache: KVCacheManager, counters: VirtualCounters, num_slots: int) -> None:
        self._cache = cache
        self.num_slots = num_slots
        self.order = FairOrder(counters)
        self.waiting = FairQueue(counters)
        self.following = Followers()
        self.held: set[Sequence] = set()
        self.running: list[Sequence] = []
        self.queued_tokens = 0
        self._slots = list(range(num_slots - 1, -1, -1))
        self._reserved: dict[Sequence, list[int]] = {}

    @property
    def num_waiting(self) -> int:
        """Sequences that do not run."""
        return len(self.waiting) + len(self.following) + len(self.held)

    @property
    def free_slots(self) -> int:
        """Slots that nobody has."""
        return len(self._slots)

    def enqueue(self, sequence: Sequence) -> None:
        """A sequence without a place waits to run."""
        sequence.state = SequenceState.WAITING
        if sequence.request.isolated:
            self.held.add(sequence)
        else:
            self.waiting.push(sequence)
        self.queued_tokens += sequence.num_prompt

    def follow(self, sequence: Sequence, leader: bytes) -> None:
        """A waiting sequence waits for the block of this hash instead, which another one computes."""
        self.waiting.discard(sequence)
        self.following.add(sequence)
        sequence.state = SequenceState.FOLLOWING
        self._cache.follow(sequence, leader)

    def wake(self) -> None:
        """The followers whose block is there, or will not come, wait to run again."""
        for sequence in self._cache.take_woken():
            if sequence.state is SequenceState.FOLLOWING:
                self.following.discard(sequence)
                sequence.state = SequenceState.WAITING
                self.waiting.push(sequence)

    def rejoin(self, sequence: Sequence) -> None:
        """One that is held waits among the others."""
        if sequence in self.held:
            self.held.discard(sequence)
            self.waiting.push(sequence)

    def start(self, sequence: Sequence, num_blocks: int) -> None:
        """A waiting or held sequence runs, with so many blocks of the prefix cache; its slots have to be free."""
        if sequence in self.held:
            self.held.discard(sequence)
        else:
            self.waiting.take(sequence)
        self.queued_tokens -= sequence.num_prompt
        slots = [self._slots.pop() for _ in range(sequence.num_slots)]
        self._reserved[sequence] = slots
        sequence.slot = slots[0]
        sequence.state = SequenceState.RUNNING
        insort(self.running, sequence, key=self.order.key)
        self._cache.adopt(sequence, num_blocks)

    def fork(self, sequence: Sequence) -> list[Sequence]:
        """The n sequences of a request whose prompt is computed, itself the first: they share its blocks and run."""
        takers = [sequence, *sequence.fork()]
        for taker, slot in zip(takers, self._reserved.pop(sequence), strict=True):
            taker.slot = slot
            self._reserved[taker] = [slot]
            if taker is not sequence:
                self._cache.share(sequence, taker)
                insort(self.running, taker, key=self.order.key)
        return takers

    def release(self, sequence: Sequence) -> None:
        """The one way out of every place: queue, wait, slots and blocks are given back; the state is FINISHED."""
        if sequence.state is SequenceState.RUNNING:
            self.running.remove(sequence)
            self._slots.extend(reversed(self._reserved.pop(sequence)))
            sequence.slot = -1
        else:
            self.waiting.discard(sequence)
            self.following.discard(sequence)
            self.held.discard(sequence)
            self.queued_tokens -= sequence.num_prompt
        self._cache.release(sequence)
        sequence.draft = ()
        sequence.state = SequenceState.FINISHED

    def problems(self, live: Rows[Sequence]) -> Iterable[str]:
        """What is inconsistent between the places and the unfinished sequences."""
        running = [s for s in live if s.state is SequenceState.RUNNING]
        if sorted(running, key=self.order.key) != self.running:
            yield "the running list and the requests disagree, or it is out of order"
        if len(live) - len(running) != self.num_waiting:
            yield f"{self.num_waiting} wait by count, {len(live) - len(running)} by state"
        if sum(s.num_prompt for s in live if s.state is not SequenceState.RUNNING) != self.queued_tokens:
            yield "the queued tokens are miscounted"
        taken = sorted(self._slots + [slot for slots in self._reserved.values() for slot in slots])
        if taken != list(range(self.num_slots)):
            yield "slots are lost or doubled"
