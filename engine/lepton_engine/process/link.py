"""A front end's end of the engine's socket. Imports no torch."""

import asyncio
import logging
from collections.abc import Callable

import msgspec
import zmq
import zmq.asyncio

from lepton_engine.errors import EngineDeadError, LeptonError
from lepton_engine.messages import Command, Heartbeat, Replies

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0


class Link:
    """A DEALER that sends commands, hands on replies, and says every two seconds that its front end lives.

    Args:
        address: where the engine listens, or will.
        client: the name under which the engine knows this front end; None for one made by the socket.
    """

    def __init__(self, address: str, client: str | None = None) -> None:
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket | None = self._context.socket(zmq.DEALER)
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self._socket.setsockopt(option, 0)
        if client is not None:
            self._socket.setsockopt(zmq.IDENTITY, client.encode())
        self._socket.connect(address)
        self._encoder = msgspec.msgpack.Encoder()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """Begin to read and to beat."""
        self._tasks = [asyncio.create_task(self._read(deliver, died)), asyncio.create_task(self._beat())]

    def send(self, command: Command) -> None:
        """Send a command; never blocks."""
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

    async def close(self) -> None:
        """End; safe to call again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None
            self._context.term()
