"""What the scheduler needs of a request's grammar: how far each of its sequences has come."""

from collections.abc import Sequence
from typing import Protocol

from lepton_engine.errors import LeptonError


class OutputMatcher(Protocol):
    """The state of one sequence; survives preemption, since it knows confirmed tokens only."""

    def advance(self, token_id: int) -> bool:
        """Take in a confirmed token; whether the output is complete, so that nothing can follow."""

    def accepted(self, draft: Sequence[int]) -> int:
        """How many tokens of a draft may follow."""

    def complete(self) -> bool:
        """Whether nothing may follow because the output is complete."""

    def failure(self, masked: bool) -> LeptonError | None:
        """Why nothing may follow although it is not; None where the grammar has no part in it.

        Args:
            masked: whether the request forbids tokens in other ways, too.
        """


class OutputGrammar(Protocol):
    """The form that the outputs of a request must have."""

    def matcher(self, *, ignore_eos: bool = False) -> OutputMatcher:
        """The state at the beginning of an output."""
