"""What every source of drafts is to the engine."""

from typing import Protocol

from lepton_engine.core.request import Sequence


class Proposer(Protocol):
    """Guesses how sequences go on. A wrong guess costs time, never correctness."""

    def propose(self, wanted: list[tuple[Sequence, int]]) -> list[list[int]]:
        """For each of the sequences up to so many tokens (at least one is asked for), perhaps none."""
