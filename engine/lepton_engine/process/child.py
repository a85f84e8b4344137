"""The engine in a process of its own, over ZeroMQ. Imports no torch."""

import asyncio
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from lepton_engine.errors import EngineDeadError, LeptonError
from lepton_engine.messages import Command, EngineSettings, Heartbeat, Replies
from lepton_engine.process.worker import WorkerSettings

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
STOP_SECONDS = 10.0


class ProcessCarrier:
    """Starts the engine's process and talks to it; the process ends with this one, however that ends."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._socket: zmq.asyncio.Socket | None = None
        self._context: zmq.asyncio.Context | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Of the engine's process; None before it started."""
        return None if self._process is None else self._process.pid

    async def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """See `Carrier.start`."""
        # A folder that only this user can enter keeps the socket private.
        self._folder = tempfile.TemporaryDirectory(prefix="lepton-")
        address = f"ipc://{Path(self._folder.name) / 'engine'}"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lepton_engine.process.worker", stdin=subprocess.PIPE
        )
        assert self._process.stdin is not None
        level = logging.getLogger().getEffectiveLevel()
        message = msgspec.msgpack.encode(WorkerSettings(address, self._settings, level))
        self._process.stdin.write(len(message).to_bytes(8, "little") + message)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self._socket.setsockopt(option, 0)
        self._socket.connect(address)
        self._tasks = [
            asyncio.create_task(self._read(deliver, died)),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._watch(died)),
        ]

    def send(self, command: Command) -> None:
        """See `Carrier.send`."""
        if self._socket is not None:
            # Without a high-water mark a DEALER sends at once: the future is done when this returns.
            self._socket.send(self._encoder.encode(command))

    async def _read(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        decoder = msgspec.msgpack.Decoder(Replies)
        try:
            while self._socket is not None:
                deliver(decoder.decode(await self._socket.recv()))
        except Exception as error:  # Without its reader the engine is as good as dead, and must not look alive.
            logger.exception("the engine's replies cannot be read")
            died(EngineDeadError(f"its replies cannot be read: {error}"))

    async def _beat(self) -> None:
        while True:
            self.send(Heartbeat())
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _watch(self, died: Callable[[LeptonError], None]) -> None:
        assert self._process is not None
        code = await self._process.wait()
        # What the process said last may still be in the socket.
        await asyncio.sleep(0.1)
        if not self._stopping:
            died(EngineDeadError(f"the engine process ended with exit code {code}"))

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
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None
        if self._context is not None:
            self._context.term()
            self._context = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
