"""How an engine in a process of its own is kept, or joined. Imports no torch."""

from dataclasses import dataclass

from lepton_engine.messages import EngineSettings
from lepton_engine.process.child import STEP_TIMEOUT_SECONDS, ProcessCarrier
from lepton_engine.process.connection import Carrier
from lepton_engine.process.member import MemberCarrier
from lepton_engine.process.quarantine import Quarantine


@dataclass(frozen=True)
class ProcessOptions:
    """Settings of the process, or of the way to it.

    Attributes:
        step_timeout: seconds without progress after which the engine's process is killed; None never does.
        quarantine: carries from one engine process to the next what is known of requests that kill it.
        address: of an engine that another front end has started and keeps; None starts one.
        client: this front end's name there, unique over the engine's life.
    """

    step_timeout: float | None = STEP_TIMEOUT_SECONDS
    quarantine: Quarantine | None = None
    address: str | None = None
    client: str = ""

    def carrier(self, settings: EngineSettings) -> Carrier:
        """The way to the engine."""
        if self.address is not None:
            return MemberCarrier(self.address, self.client)
        return ProcessCarrier(settings, self.step_timeout, self.quarantine)
