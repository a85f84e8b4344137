"""In which order running sequences are served, and who gives way to whom between tenants."""

from collections import Counter
from collections.abc import Iterable

from lepton_engine.core.request import Sequence
from lepton_engine.core.virtual_counters import Lane, VirtualCounters

OrderKey = tuple[int, float, int, int]


class FairOrder:
    """Sequences by priority, then by how little their tenant was served, then by arrival.

    Counters move while a step is planned; the order of a step is that of its beginning.

    Attributes:
        lanes: that had running sequences when the step began.
    """

    def __init__(self, counters: VirtualCounters) -> None:
        self._counters = counters
        self._ranks: dict[Lane, float] = {}
        self.lanes: set[Lane] = set()

    def renew(self, running: list[Sequence]) -> None:
        """Take the counters of now, and put the running sequences in order by them."""
        self._ranks.clear()
        self.lanes = {sequence.request.lane for sequence in running}
        if len(self.lanes) > 1:
            running.sort(key=self.key)

    def lane_key(self, sequence: Sequence) -> tuple[int, float]:
        """Where its tenant stands."""
        lane = sequence.request.lane
        rank = self._ranks.get(lane)
        if rank is None:
            rank = self._ranks[lane] = self._counters.of(lane)
        return lane[0], rank

    def key(self, sequence: Sequence) -> OrderKey:
        """Where it stands."""
        return (*self.lane_key(sequence), sequence.request.arrival, sequence.index)

    def gives_way(
        self,
        head: Sequence,
        head_blocks: int,
        running: Iterable[Sequence],
        waiting_tenants: Iterable[str],
        *,
        slots: int,
        blocks: int,
    ) -> Sequence | None:
        """The running sequence that a waiting one of the same priority may take the place of; None if there is none.

        A tenant's share is the larger of its parts of slots and KV blocks ("Dominant Resource Fairness", Ghodsi et
        al., NSDI 2011). Who has, with the waiting sequence, no more than an equal share takes from who has most, if
        that is more than an equal share and was served more: its last sequence. That one can then not take it back, so
        that nobody is driven to and fro.

        Args:
            head_blocks: KV blocks that the waiting sequence needs. running: in order.
            waiting_tenants: who waits at its priority.
            slots, blocks: that there are in all.
        """
        priority, own = head.request.lane
        taken_slots: Counter[str] = Counter()
        taken_blocks: Counter[str] = Counter()
        last: dict[str, Sequence] = {}
        for sequence in running:
            held = sum(sequence.num_held(i) for i in range(len(sequence.blocks)))
            if sequence.request.priority == priority:
                tenant = sequence.request.tenant
                taken_slots[tenant] += sequence.num_slots
                taken_blocks[tenant] += held
                last[tenant] = sequence
            elif sequence.request.priority < priority:
                slots -= sequence.num_slots
                blocks -= held
        if slots <= 0 or blocks <= 0:
            return None

        def share(tenant: str, more_slots: int = 0, more_blocks: int = 0) -> float:
            return max((taken_slots[tenant] + more_slots) / slots, (taken_blocks[tenant] + more_blocks) / blocks)

        equal = 1 / len({own, *last, *waiting_tenants})
        place = self.lane_key(head)
        others = [tenant for tenant, sequence in last.items() if self.lane_key(sequence) > place]
        if not others or share(own, head.num_slots, head_blocks) > equal:
            return None
        most = max(others, key=share)
        return last[most] if share(most) > equal else None
