"""The engine in a process of its own, over ZeroMQ. Imports no torch."""

import asyncio
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from lepton_engine.errors import EngineDeadError, LeptonError
from lepton_engine.messages import Command, EngineSettings, Replies
from lepton_engine.process.link import Link
from lepton_engine.process.progress import Progress, StallClock
from lepton_engine.process.quarantine import Quarantine
from lepton_engine.process.worker import WorkerSettings

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
STEP_TIMEOUT_SECONDS = 300.0
LOOKS = 20  # times a step timeout that progress is looked at


class ProcessCarrier:
    """Starts the engine's process and talks to it; the process ends with this one, however that ends.

    Args:
        step_timeout: seconds without progress of the loop after which the process is killed; None never does. Loading
            and the capture of graphs come before the loop and are not bounded.
        quarantine: learns which requests were in flight when the process died, and tells the next process.
    """

    def __init__(
        self,
        settings: EngineSettings,
        step_timeout: float | None = STEP_TIMEOUT_SECONDS,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._settings = settings
        self._step_timeout = step_timeout
        self._quarantine = quarantine
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._link: Link | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._progress: Progress | None = None
        self._hung = False
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Of the engine's process; None before it started."""
        return None if self._process is None else self._process.pid

    @property
    def address(self) -> str:
        """Where the engine listens, for the front ends that join it; known once `start` has been called."""
        if self._folder is None:
            raise EngineDeadError("the engine's process has not been started")
        return f"ipc://{Path(self._folder.name) / 'engine'}"

    async def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """See `Carrier.start`."""
        # A folder that only this user can enter keeps the socket private.
        self._folder = tempfile.TemporaryDirectory(prefix="lepton-")
        shared = Path(self._folder.name) / "progress"
        self._progress = Progress(shared, create=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lepton_engine.process.worker", stdin=subprocess.PIPE
        )
        assert self._process.stdin is not None
        level = logging.getLogger().getEffectiveLevel()
        held = self._quarantine
        message = msgspec.msgpack.encode(
            WorkerSettings(
                address=self.address,
                engine=self._settings,
                log_level=level,
                progress=str(shared),
                suspects=[] if held is None else held.suspects(),
                convicts=[] if held is None else held.convicts(),
            )
        )
        self._process.stdin.write(len(message).to_bytes(8, "little") + message)
        self._link = Link(self.address)
        self._link.start(deliver, died)
        self._tasks = [asyncio.create_task(self._watch(died))]
        if self._step_timeout is not None:
            self._tasks.append(asyncio.create_task(self._watch_progress(self._step_timeout)))

    def send(self, command: Command) -> None:
        """See `Carrier.send`."""
        if self._link is not None:
            self._link.send(command)

    async def _watch(self, died: Callable[[LeptonError], None]) -> None:
        assert self._process is not None
        code = await self._process.wait()
        # What the process said last may still be in the socket.
        await asyncio.sleep(0.1)
        if self._stopping:
            return
        if self._quarantine is not None and self._progress is not None:
            self._quarantine.note_end(code, self._hung, self._progress.in_flight())
        if self._hung:
            died(EngineDeadError(f"a step made no progress for {self._step_timeout:g} s, its process was killed"))
        else:
            died(EngineDeadError(f"the engine process ended with exit code {code}"))

    async def _watch_progress(self, limit: float) -> None:
        assert self._progress is not None
        clock = StallClock(limit / LOOKS)
        while True:
            await asyncio.sleep(limit / LOOKS)
            if self._progress.loaded and clock.look(self._progress.turns, time.monotonic()) >= limit:
                logger.error("the engine's loop has made no progress for %g s: its process is killed", limit)
                self._hung = True
                self.kill()
                return

    def kill(self) -> None:
        """See `Carrier.kill`."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """See `Carrier.stop`: asks by closing the pipe, then by SIGKILL."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                logger.warning("the engine process did not end in %.0f s and is killed", STOP_SECONDS)
                self._process.kill()
                await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._link is not None:
            await self._link.close()
            self._link = None
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
