"""Whose energy it was.

The counter is read at intervals while steps run. What it has counted between two readings is shared among the requests
of the steps in between, in proportion to the tokens that were computed for them: a prompt token, a generated one and a
computation that is repeated count the same. What is spent while no step runs is nobody's.

A request that ends between two readings that are close together is charged at the price of a token before; what it was
given is taken off the next interval's energy, so that the shares never add up to more than was counted.
"""

import logging
from collections.abc import Iterable

from lepton_engine.energy.meter import EnergyMeter

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.1
SHORTEST_SECONDS = 0.02


class EnergyLedger:
    """The energy of the device and each request's share of it. Times are `time.monotonic` seconds.

    Attributes:
        total: joules counted since the ledger was opened, idle times included. attributed: those given to requests.
            Both None once the counter cannot be read any more. source: which counter it is.
    """

    def __init__(self, meter: EnergyMeter, now: float) -> None:
        self.total: float | None = 0.0
        self.attributed: float | None = 0.0
        self.source = meter.source
        self._meter: EnergyMeter | None = meter
        self._base = meter.joules()
        self._read_at = now
        self._open: dict[str, int] = {}
        self._ended_tokens = 0
        self._joules: dict[str, float] = {}
        self._advanced = 0.0
        self._price: float | None = None

    def begin(self, now: float) -> None:
        """A step begins, and none is in flight."""
        if not self._open and now - self._read_at >= INTERVAL_SECONDS:
            self._advanced = max(0.0, self._advanced - self._read(now))
            self._ended_tokens = 0

    def charge(self, shares: Iterable[tuple[str, int]], now: float) -> bool:
        """A step has ended which computed so many tokens of these requests; whether accounts have changed."""
        for key, tokens in shares:
            self._open[key] = self._open.get(key, 0) + tokens
        if now - self._read_at < INTERVAL_SECONDS:
            return False
        self._close(now)
        return True

    def spent(self, key: str, now: float) -> float | None:
        """Joules of a request up to now; None when they are not known."""
        if self._meter is None:
            return None
        if key in self._open:
            if self._price is None or now - self._read_at >= SHORTEST_SECONDS:
                self._close(now)
            else:
                tokens = self._open.pop(key)
                advance = tokens * self._price
                self._ended_tokens += tokens
                self._advanced += advance
                self._give(key, advance)
        return self._joules.get(key)

    def drop(self, key: str) -> None:
        """A request has ended. What was computed for it since the last reading falls to the others."""
        self._open.pop(key, None)
        self._joules.pop(key, None)

    @property
    def accounts(self) -> int:
        """Requests that are remembered."""
        return len(self._open.keys() | self._joules.keys())

    def _read(self, now: float) -> float:
        if self._meter is None:
            return 0.0
        try:
            joules = self._meter.joules()
        except OSError as error:
            logger.warning("energy is not measured any more: %s", error)
            self._meter = self.total = self.attributed = None
            self._joules.clear()
            return 0.0
        delta = max(0.0, joules - self._base)
        self._base = max(joules, self._base)
        self._read_at = now
        self.total = (self.total or 0.0) + delta
        return delta

    def _close(self, now: float) -> None:
        delta = self._read(now)
        tokens = sum(self._open.values())
        if self._meter is not None and tokens + self._ended_tokens:
            self._price = delta / (tokens + self._ended_tokens)
        share = max(0.0, delta - self._advanced)
        self._advanced -= delta - share
        if self._meter is not None and tokens:
            for key, count in self._open.items():
                self._give(key, share * count / tokens)
        self._open.clear()
        self._ended_tokens = 0

    def _give(self, key: str, joules: float) -> None:
        self._joules[key] = self._joules.get(key, 0.0) + joules
        self.attributed = (self.attributed or 0.0) + joules
