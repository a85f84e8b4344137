"""A front end that another one has started: `python -m lepton_service.frontends.member`.

Its standard input brings its assignment, then announcements; when it closes, the first front end has gone, and this one
ends at once. It listens on the same ports and joins the same engine. Signals are the first front end's to act on.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from lepton_engine.errors import EngineDeadError, LeptonError
from lepton_service.app import FrontEnd, Stop
from lepton_service.engine_api import Engine
from lepton_service.errors import EngineUnavailableError
from lepton_service.frontends.messages import Announcement, announcements, receive
from lepton_service.state import Phase, ServerState


class JoinedEngine(Engine, Protocol):
    """An engine that another process keeps: AsyncLeptonEngine with an address."""

    def lose(self, error: LeptonError) -> None:
        """The keeper says that it has ended."""


JoinEngine = Callable[[str], Awaitable[JoinedEngine]]


class Follower:
    """The keeper of a front end that keeps nothing: it does as the announcements say.

    Args:
        join: makes an engine of an address, without connecting.
    """

    def __init__(self, state: ServerState, stop: Stop, join: JoinEngine) -> None:
        self._state = state
        self._stop = stop
        self._join = join
        self._over: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._joining: asyncio.Task[None] | None = None
        self._engine: JoinedEngine | None = None
        self._address = ""

    async def run(self) -> Exception:
        """See `Keeper.run`."""
        return await asyncio.shield(self._over)

    def on_error(self, error: Exception) -> None:
        """See `Keeper.on_error`: the first front end notices by itself."""

    async def listen(self, lines: asyncio.StreamReader) -> None:
        """Acts on announcements, also while this front end drains; returns when the first front end has gone."""
        while line := await lines.readline():
            await self.take(msgspec.json.decode(line, type=Announcement))
        if not self._stop.begin.is_set():
            self._stop.signal()
        self._stop.signal()

    async def take(self, standing: Announcement) -> None:
        """Acts on one announcement."""
        phase = Phase[standing.phase]
        self._state.started = standing.started
        if standing.address != self._address:
            await self._leave(standing)
            if standing.address:
                self._joining = asyncio.create_task(self._enter(standing))
        if phase is Phase.RESTARTING:
            self._state.mark_restarting(standing.retry_after)
        if phase is Phase.FAILED and not self._over.done():
            self._over.set_result(EngineUnavailableError("the engine has ended"))
        if standing.draining and not self._stop.begin.is_set():
            self._stop.signal()
        if standing.now:
            self._stop.now.set()

    async def _leave(self, standing: Announcement) -> None:
        self._address = standing.address
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait({self._joining})
            self._joining = None
        if self._engine is not None:
            self._state.mark_restarting(standing.retry_after)
            self._engine.lose(EngineDeadError("its process has ended"))
            await self._engine.shutdown()
            self._engine = None

    async def _enter(self, standing: Announcement) -> None:
        try:
            engine = await self._join(standing.address)
            self._engine = engine
            await engine.start()
        except LeptonError as error:
            if not self._over.done():
                self._over.set_result(error)
            return
        self._state.mark_ready(engine)
        self._state.started = standing.started
        _say("serves")


def _say(what: str) -> None:
    """Tells the first front end."""
    print(what, flush=True)


async def follow(front: FrontEnd, join: JoinEngine) -> int:
    """Runs a front end by the announcements on standard input.

    Returns:
        The exit status; see `FrontEnd.run`.

    Raises:
        PortInUseError, TLSError.
    """
    follower = Follower(front.state, front.stop, join)
    front.keeper = follower
    await front.start()
    _say("listens")
    listening = asyncio.create_task(follower.listen(await announcements(sys.stdin.fileno())))
    try:
        return await front.run()
    finally:
        listening.cancel()


def main() -> int:
    """Runs as told."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group; the first front end tells what to do
    try:
        assignment = receive(sys.stdin.fileno())
    except EOFError:
        return 1
    from lepton_service.commands.serve import run_member

    return run_member(assignment)


if __name__ == "__main__":
    sys.exit(main())
