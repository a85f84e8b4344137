"""The engine in a thread of this process."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable

from lepton_engine.errors import EngineDeadError, LeptonError
from lepton_engine.messages import Command, Dead, Ready, Replies
from lepton_engine.step import EngineCore

logger = logging.getLogger(__name__)

CLIENT = "in-process"


class ThreadCarrier:
    """Runs an `EngineCore` in a thread; commands go through a queue, replies through the event loop.

    Args:
        build: makes the core; called in the thread, so that its allocations and its work share it.
    """

    def __init__(self, build: Callable[[], EngineCore]) -> None:
        self._build = build
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """See `Carrier.start`."""
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._died = died
        self._thread = threading.Thread(target=self._run, name="lepton-engine", daemon=True)
        self._thread.start()

    def send(self, command: Command) -> None:
        """See `Carrier.send`."""
        self._commands.put(command)

    def kill(self) -> None:
        """See `Carrier.kill`: a thread ends at the end of its step only."""

    async def stop(self) -> None:
        """See `Carrier.stop`."""
        self._stopping.set()
        self._commands.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            core = self._build()
        except LeptonError as error:
            self._call(self._deliver, [Dead(type(error).__name__, str(error))])
            return
        except Exception as error:
            logger.exception("the engine could not start")
            self._call(self._deliver, [Dead("LeptonError", f"{type(error).__name__}: {error}")])
            return
        self.send_replies(CLIENT, [Ready(core.info)])
        try:
            core.run(self, self._stopping.is_set)
        except Exception as error:
            logger.exception("the engine's loop has failed")
            self._call(self._died, EngineDeadError(f"{type(error).__name__}: {error}"))

    def receive(self, timeout: float) -> list[tuple[str, Command]]:
        """See `Transport.receive`."""
        commands: list[tuple[str, Command]] = []
        try:
            command = self._commands.get(timeout=timeout) if timeout > 0 else self._commands.get_nowait()
            while True:
                if command is not None:
                    commands.append((CLIENT, command))
                command = self._commands.get_nowait()
        except queue.Empty:
            return commands

    def send_replies(self, client: str, replies: Replies) -> None:
        """See `Transport.send_replies`."""
        self._call(self._deliver, replies)

    def lost_clients(self) -> list[str]:
        """See `Transport.lost_clients`: the only client lives as long as the thread."""
        return []

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        # A closed event loop has nobody left to tell.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)
