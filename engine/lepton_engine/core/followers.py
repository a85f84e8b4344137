"""The sequences that wait for another one to compute the prefix that both share."""

from lepton_engine.core.request import Sequence
from lepton_engine.core.virtual_counters import Lane


class Followers:
    """Followers by lane."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, set[Sequence]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def add(self, sequence: Sequence) -> None:
        """It waits from now on."""
        self._lanes.setdefault(sequence.request.lane, set()).add(sequence)

    def discard(self, sequence: Sequence) -> None:
        """It waits no longer."""
        lane = self._lanes.get(sequence.request.lane)
        if lane is not None:
            lane.discard(sequence)
            if not lane:
                del self._lanes[sequence.request.lane]

    def before(self, sequence: Sequence) -> int:
        """How many of its own lane and of better priorities wait."""
        own = sequence.request.lane
        return sum(len(lane) for key, lane in self._lanes.items() if key == own or key[0] < own[0])
