"""How much each tenant has been served: the virtual counters of the Virtual Token Counter.

"Fairness in Serving Large Language Models" (Sheng et al., OSDI 2024), which charges tokens as they are computed to
start-time fair queueing (Goyal et al., SIGCOMM 1996). Who comes back after a pause starts at the clock, the counter of
whoever was served last, and so has no claim on what it has not asked for, but for a small credit: else two requests
that come together, of a tenant that asks for little, would have to take turns with those of one that floods. Each
priority has counters of its own.
"""

Lane = tuple[int, str]
MAX_COUNTERS = 4096


class VirtualCounters:
    """Tokens served to each tenant of each priority, weighted; only differences mean something.

    Args:
        credit: tokens before the clock at which a tenant starts that comes back.
    """

    def __init__(self, credit: float = 0.0) -> None:
        self._credit = credit
        self._served: dict[Lane, float] = {}
        self._clock: dict[int, float] = {}

    def of(self, lane: Lane) -> float:
        """What the tenant has been served at this priority."""
        return self._served.get(lane, self._clock.get(lane[0], 0.0))

    def join(self, lane: Lane) -> None:
        """A tenant that had nothing waiting has again: it starts near the clock, or at its own counter if beyond."""
        self._served[lane] = max(self._served.get(lane, 0.0), self._clock.get(lane[0], 0.0) - self._credit)
        if len(self._served) > MAX_COUNTERS:
            self._forget()

    def charge(self, lane: Lane, amount: float) -> None:
        """Tokens were computed for a tenant."""
        served = self._served.get(lane)
        self._served[lane] = amount + (self.of(lane) if served is None else served)

    def advance(self, lane: Lane) -> None:
        """A tenant's request leaves the queue to run: the clock follows its counter."""
        self._clock[lane[0]] = max(self._clock.get(lane[0], 0.0), self.of(lane))

    def rest(self) -> None:
        """Nothing waits and nothing runs: all start anew."""
        self._served.clear()
        self._clock.clear()

    def _forget(self) -> None:
        """Drop the counters that tell least: those at the clock tell nothing; of the others the lowest half."""
        ahead = [(served - self._clock.get(lane[0], 0.0), lane) for lane, served in self._served.items()]
        kept = sorted(entry for entry in ahead if entry[0] > 0)[-MAX_COUNTERS // 2 :]
        self._served = {lane: self._served[lane] for _, lane in kept}
