"""Requests that have been in a step which killed the engine's process, and what is done when they come again.

A process that dies tells nothing, so the parent reads which requests its last step held from the memory that they
share. Each of them is a suspect: when it comes again, to the next process, its steps are its own until it has got past
the point that it had reached, while the others go on in steps between. A suspect that kills a process alone is
convicted: it is refused from then on, so that retries of one client never keep the server from serving the others.

Known by what they ask (a hash of tenant, prompt and parameters), since a client may give a retry another id. Only ends
that a computation can cause make suspects: a crash (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, an exit of its own), or a
step that hung. SIGKILL comes from outside (an operator, the kernel's out-of-memory killer) and makes none.
"""

import signal
import time
from collections import OrderedDict
from collections.abc import Callable

from lepton_engine.process.progress import InFlight

REMEMBER_SECONDS = 600.0
MOST = 4096
OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


class Quarantine:
    """Lives in the parent, longer than any engine process.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._suspects: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._convicts: OrderedDict[bytes, float] = OrderedDict()

    def note_end(self, exit_code: int, hung: bool, in_flight: list[InFlight]) -> None:
        """A process has ended unasked while these were in its step."""
        if exit_code in OUTSIDE and not hung:
            return
        now = self._clock()
        if len(in_flight) == 1 and in_flight[0].fingerprint in self._suspects:
            self._convicts[in_flight[0].fingerprint] = now
        for request in in_flight:
            self._suspects.pop(request.fingerprint, None)
            self._suspects[request.fingerprint] = (request.num_generated, now)
        for held in (self._suspects, self._convicts):
            while len(held) > MOST:
                held.popitem(last=False)

    def suspects(self) -> list[tuple[bytes, int]]:
        """Fingerprints of those whose steps are to be their own, and the tokens that they had generated."""
        horizon = self._clock() - REMEMBER_SECONDS
        return [(key, count) for key, (count, noted) in self._suspects.items() if noted > horizon]

    def convicts(self) -> list[bytes]:
        """Fingerprints of those that are refused."""
        horizon = self._clock() - REMEMBER_SECONDS
        return [key for key, noted in self._convicts.items() if noted > horizon]
