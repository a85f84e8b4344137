"""What the engine's loop stands between: the device's side, the front ends' side, and who else has a part in steps."""

from typing import Protocol

from lepton_engine.core.plan import StepPlan, StepResult
from lepton_engine.core.request import Sequence
from lepton_engine.messages import Command, Replies


class Launched(Protocol):
    """A step that the device has been given."""

    def result(self) -> StepResult:
        """Wait for the step and bring its results to the host."""


class StepRunner(Protocol):
    """Turns plans into work of the device."""

    def launch(self, plan: StepPlan) -> Launched:
        """Start a step; on a CPU it has run when this returns."""


class Speculator(Protocol):
    """Guesses the tokens that come next."""

    def draft(self, wanted: list[tuple[Sequence, int]]) -> None:
        """Set the `draft` of sequences, each of at most so many tokens."""


class Recorder(Protocol):
    """Keeps who is in the step in flight where the death of the process does not reach."""

    def record(self, requests: list[tuple[bytes, int]]) -> None:
        """Fingerprints, and the tokens that each has generated."""

    def again(self) -> None:
        """Another step of the same."""

    def clear(self) -> None:
        """No step is in flight."""


class Transport(Protocol):
    """Carries commands in and replies out; `client` names who sent and who is to receive."""

    def receive(self, timeout: float) -> list[tuple[str, Command]]:
        """All commands that have come, after waiting for the first up to timeout seconds."""

    def send_replies(self, client: str, replies: Replies) -> None:
        """Send replies to a client; never blocks on a slow one."""

    def lost_clients(self) -> list[str]:
        """Clients that have gone since the last call."""


class Stopping(Protocol):
    """Whether the loop is to end."""

    def __call__(self) -> bool:
        """True from then on."""
