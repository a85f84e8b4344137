"""Finding the request that crashes its steps, while the others go on.

The requests of a crashed step are suspects. They are computed again in halves: a half whose step crashes is halved
anew, down to the one request that crashes alone and did so before; a half that gets past the point of the crash is
cleared. Steps of the suspects alternate with steps of everybody else, so that nobody waits for the search. For a crash
that does not come again (a moment without memory) every half is cleared and nobody fails.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from lepton_engine.core.plan import StepPlan
from lepton_engine.core.request import Request, Sequence, SequenceState


@dataclass(frozen=True)
class Goal:
    """What a suspect's sequences must have got to: tokens computed, and tokens known."""

    computed: int
    known: int


class Isolation:
    """The suspects, in the groups whose steps they share.

    Args:
        is_live: whether a request is unfinished.
        free: called with the suspects that are cleared.
    """

    def __init__(self, is_live: Callable[[Request], bool], free: Callable[[Request], None]) -> None:
        self._is_live = is_live
        self._free = free
        self._groups: deque[list[Request]] = deque()
        self._goals: dict[Request, Goal] = {}
        self._turn = False

    @property
    def active(self) -> bool:
        """Whether there are suspects."""
        return bool(self._groups)

    def add(self, request: Request, goal: Goal) -> None:
        """A suspect from elsewhere: its steps are its own."""
        self._isolate([request], {request: goal})

    def crashed(self, plan: StepPlan) -> Request | None:
        """A step has crashed.

        Returns:
            The request at fault if it is found; else its requests are suspects from now on.
        """
        goals = goals_of(plan)
        requests = [request for request in goals if self._is_live(request)]
        for group in self._groups:
            group[:] = [request for request in group if request not in goals]
        self._drop_empty()
        if len(requests) == 1 and requests[0].isolated:
            self._goals.pop(requests[0], None)
            return requests[0]
        middle = len(requests) // 2
        for half in (requests[middle:], requests[:middle]):
            self._isolate(half, goals)
        return None

    def _isolate(self, requests: list[Request], goals: dict[Request, Goal]) -> None:
        if requests:
            for request in requests:
                request.isolated = True
                self._goals[request] = goals[request]
            self._groups.appendleft(list(requests))

    def next_group(self) -> list[Request] | None:
        """Whose step comes next: a group of suspects', or everybody else's (None)."""
        self._turn = not self._turn and self.active
        if not self._turn:
            return None
        group = self._groups[0]
        self._groups.rotate(-1)
        return list(group)

    def settle(self) -> None:
        """A step has gone well: who has got past the crash, or ended, is a suspect no longer."""
        for group in self._groups:
            for request in list(group):
                if not self._is_live(request) or self._past(request):
                    group.remove(request)
                    del self._goals[request]
                    request.isolated = False
                    if self._is_live(request):
                        self._free(request)
        self._drop_empty()

    def _drop_empty(self) -> None:
        self._groups = deque(group for group in self._groups if group)

    def _past(self, request: Request) -> bool:
        goal = self._goals[request]
        return all(
            s.state is SequenceState.FINISHED or (s.num_computed >= goal.computed and len(s.token_ids) >= goal.known)
            for s in request.sequences
        )


def goals_of(plan: StepPlan) -> dict[Request, Goal]:
    """What each request of a step would have got to with it."""
    sampled = {sample.sequence.request for sample in plan.samples}
    found: dict[Request, Goal] = {}
    for entry in plan.scheduled:
        request = entry.sequence.request
        before = found.get(request, Goal(0, 0))
        # The draft's tokens may be others the next time: what was known before it is what must come again.
        computed = entry.start + entry.num_tokens - len(entry.draft)
        known = len(entry.sequence.token_ids) + (request in sampled)
        found[request] = Goal(max(before.computed, computed), max(before.known, known))
    return found


def sequences_of(plans: Collection[StepPlan]) -> list[Sequence]:
    """The sequences that have a part in steps, those forked in them included."""
    found = {entry.sequence: None for plan in plans for entry in plan.scheduled}
    found |= {sample.sequence: None for plan in plans for sample in plan.samples}
    return list(found)
