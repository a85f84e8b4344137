"""The other front ends, kept by the first: started, told how things stand, started again, drained."""

import argparse
import asyncio
import logging
import subprocess
import sys
import time
from typing import Protocol, cast

import msgspec

from lepton_service.frontends.messages import Announcement, Assignment, pack
from lepton_service.restarts import RestartPolicy
from lepton_service.state import Phase, ServerState
from lepton_service.waiting import any_set

LOOK_SECONDS = 0.5
END_SECONDS = 5.0

_log = logging.getLogger("lepton.serve")


class SharedEngine(Protocol):
    """What the engine's keeper can do beside `Engine`: AsyncLeptonEngine's."""

    @property
    def address(self) -> str:
        """Where others reach it."""

    @property
    def dead(self) -> Exception | None:
        """Why it has ended; None while it runs."""

    def drop_client(self, client: str) -> None:
        """A front end has gone: its requests end."""


class Siblings:
    """Front ends 1 to count - 1, an attachment of front end 0.

    Args:
        args: the command line, its ports resolved.

    Attributes:
        cut_short: whether one of them ended before its calls had.
    """

    def __init__(self, state: ServerState, args: argparse.Namespace, count: int) -> None:
        self._state = state
        self._args = args
        self._indices = range(1, count)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._announcer: asyncio.Task[None] | None = None
        self._told: dict[int, Announcement] = {}
        self._now = False
        self.cut_short = False

    async def start(self) -> None:
        """See `Attachment.start`: begins to start them."""
        self._tasks = [asyncio.create_task(self._keep(index)) for index in self._indices]
        self._announcer = asyncio.create_task(self._announce())

    async def _keep(self, index: int) -> None:
        """Runs one front end, again and again, until the drain."""
        policy = RestartPolicy(max_failed_starts=sys.maxsize)
        life = 0
        while not self._ending:
            life += 1
            client = f"front-end-{index}-{life}"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lepton_service.frontends.member"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            try:
                ready = await self._live(index, process, client)
            finally:
                self._processes.pop(index, None)
                self._told.pop(index, None)
                engine = self._engine
                if engine is not None and engine.dead is None:
                    engine.drop_client(client)
            if self._ending:
                self.cut_short = self.cut_short or process.returncode != 0
                return
            delay = policy.after_end(ready) or 0.0
            _log.error("front end %d ended with %s and is started again in %g s", index, process.returncode, delay)
            await asyncio.sleep(delay)

    async def _live(self, index: int, process: asyncio.subprocess.Process, client: str) -> float | None:
        """One process to its end; for how many seconds it was listening, None for never."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pack(Assignment(self._args, index, client)))
        self._processes[index] = process
        self._tell(index)
        listening = None
        try:
            while line := await process.stdout.readline():
                listening = listening or time.monotonic()
                _log.info("front end %d %s (pid %d)", index, line.decode().strip(), process.pid)
            await process.wait()
        except asyncio.CancelledError:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        finally:
            process.stdin.close()
        return None if listening is None else time.monotonic() - listening

    @property
    def _ending(self) -> bool:
        return self._state.draining or self._state.phase is Phase.FAILED or self._now

    @property
    def _engine(self) -> SharedEngine | None:
        return cast(SharedEngine | None, self._state.engine)

    def _standing(self) -> Announcement:
        """How things stand. An engine that has died during a drain is nobody's to start again, but must be told of."""
        state, engine = self._state, self._engine
        phase = state.phase
        if phase is Phase.READY and (engine is None or engine.dead is not None):
            phase = Phase.RESTARTING
        ready = phase is Phase.READY and engine is not None
        return Announcement(
            phase=phase.name,
            address=engine.address if ready and engine is not None else "",
            started=state.started,
            retry_after=max(0.0, state.retry_at - time.monotonic()) if phase is Phase.RESTARTING else 0.0,
            draining=state.draining,
            now=self._now,
        )

    def _tell(self, index: int) -> None:
        process, standing = self._processes[index], self._standing()
        before = self._told.get(index)
        if before is not None and msgspec.structs.replace(before, retry_after=standing.retry_after) == standing:
            return
        self._told[index] = standing
        if process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(msgspec.json.encode(standing) + b"\n")

    async def _announce(self) -> None:
        while True:
            change = self._state.health.next_change()
            for index in list(self._processes):
                self._tell(index)
            await any_set(change, within=LOOK_SECONDS)

    async def stop(self, grace: float) -> None:
        """See `Attachment.stop`: they drain by themselves, having been told; who is late is cut."""
        for task, index in zip(self._tasks, self._indices, strict=False):
            if index not in self._processes:
                task.cancel()  # it waits to be started again
        if self._tasks and grace > 0:
            await asyncio.wait(self._tasks, timeout=grace + END_SECONDS)
        running = [task for task in self._tasks if not task.done()]
        if running:
            self._now = True
            self.cut_short = True
            for index in list(self._processes):
                self._tell(index)
            await asyncio.wait(running, timeout=END_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._announcer is not None:
            self._announcer.cancel()
