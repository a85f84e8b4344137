"""How much of a step the prompts of one tenant may take, so that another one's first token does not wait for long."""

from collections import OrderedDict

RECENT_SECONDS = 60.0
Place = tuple[int, float]


class RecentTenants:
    """Who has sent a request in the last minute."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def see(self, tenant: str, now: float) -> None:
        """A request has come, at a `time.monotonic` second."""
        self._seen[tenant] = now
        self._seen.move_to_end(tenant)
        self._drop(now)

    def several(self, now: float) -> bool:
        """Whether there is more than one."""
        self._drop(now)
        return len(self._seen) > 1

    def _drop(self, now: float) -> None:
        while self._seen and next(iter(self._seen.values())) < now - RECENT_SECONDS:
            self._seen.popitem(last=False)


class StepShares:
    """Bounds of the prompt tokens of each tenant in one step, while several tenants send requests.

    A step cannot be interrupted: whoever comes during one waits for its end. So one tenant's prompts fill half of a
    step at most while nobody else has any; of a step that computes those of several, who comes first in the order has
    three quarters at most, and what comes after it a quarter. Steps become shorter by this, hardly less efficient.

    Args:
        budget: tokens of the step. several: whether more than one tenant sends requests.
        contested: whether prompts of more than one are to be computed now.
    """

    def __init__(self, budget: int, *, several: bool, contested: bool) -> None:
        self._first = max(1, budget * 3 // 4 if contested else budget // 2) if several or contested else budget
        self._later = max(1, budget // 4) if several or contested else budget
        self._taken: dict[Place, int] = {}

    def allowance(self, place: Place) -> int:
        """Prompt tokens that a tenant at this place may still take."""
        if any(other < place for other in self._taken):
            first = min(self._taken)
            return self._later - sum(count for other, count in self._taken.items() if other != first)
        return self._first - self._taken.get(place, 0)

    def take(self, place: Place, count: int) -> None:
        """Prompt tokens were scheduled."""
        self._taken[place] = self._taken.get(place, 0) + count
