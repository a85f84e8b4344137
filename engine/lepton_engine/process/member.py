"""A front end that joins an engine which another one started. Imports no torch."""

from collections.abc import Callable

from lepton_engine.errors import LeptonError
from lepton_engine.messages import Command, Replies
from lepton_engine.process.link import Link


class MemberCarrier:
    """Talks to an engine process that somebody else keeps; whoever does says when it has ended, by `lose`.

    Args:
        address: where the engine listens. client: this front end's name, unique over all of the engine's life.
    """

    def __init__(self, address: str, client: str) -> None:
        self._address = address
        self._client = client
        self._link: Link | None = None
        self._died: Callable[[LeptonError], None] | None = None

    async def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """See `Carrier.start`."""
        self._died = died
        self._link = Link(self._address, self._client)
        self._link.start(deliver, died)

    def send(self, command: Command) -> None:
        """See `Carrier.send`."""
        if self._link is not None:
            self._link.send(command)

    def lose(self, error: LeptonError) -> None:
        """The engine has ended."""
        if self._died is not None:
            self._died(error)

    def kill(self) -> None:
        """See `Carrier.kill`: the engine is not this one's to end."""

    async def stop(self) -> None:
        """See `Carrier.stop`: leaves the engine as it is."""
        if self._link is not None:
            await self._link.close()
            self._link = None
