"""A front end's end of the engine's socket. Imports no torch."""

import asyncio
import logging
from collections.abc import Callable

import msgspec
import zmq

from lepton_engine.errors import EngineDeadError, LeptonError
from lepton_engine.messages import Command, Heartbeat, Replies

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0


class Link:
    """A DEALER that sends commands, hands on replies, and says every two seconds that its front end lives.

    It watches the socket's descriptor itself: the futures of `zmq.asyncio` take longer than everything else on a
    token's way through this process but gRPC.

    Args:
        address: where the engine listens, or will.
        client: the name under which the engine knows this front end; None for one made by the socket.
    """

    def __init__(self, address: str, client: str | None = None) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = self._context.socket(zmq.DEALER)
        # Without a high-water mark sending never blocks.
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            self._socket.setsockopt(option, 0)
        if client is not None:
            self._socket.setsockopt(zmq.IDENTITY, client.encode())
        self._socket.connect(address)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Replies)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beating: asyncio.Task[None] | None = None

    def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """Begin to read and to beat, in the running event loop."""
        self._deliver, self._died = deliver, died
        self._loop = asyncio.get_running_loop()
        assert self._socket is not None
        self._loop.add_reader(int(self._socket.getsockopt(zmq.FD)), self._read)
        self._loop.call_soon(self._read)
        self._beating = asyncio.create_task(self._beat())

    def send(self, command: Command) -> None:
        """Send a command; never blocks."""
        if self._socket is None:
            return
        self._socket.send(self._encoder.encode(command), zmq.NOBLOCK)
        # The descriptor tells of a message once, and sending may have taken the sign of it.
        if self._loop is not None and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        """Hand on all replies that have come."""
        try:
            while self._socket is not None:
                self._deliver(self._decoder.decode(self._socket.recv(zmq.NOBLOCK)))
        except zmq.Again:
            return
        except Exception as error:  # Without its reader the engine is as good as dead, and must not look alive.
            logger.exception("the engine's replies cannot be read")
            self._stop_reading()
            self._died(EngineDeadError(f"its replies cannot be read: {error}"))

    def _stop_reading(self) -> None:
        if self._loop is not None and self._socket is not None:
            self._loop.remove_reader(int(self._socket.getsockopt(zmq.FD)))
            self._loop = None

    async def _beat(self) -> None:
        while True:
            self.send(Heartbeat())
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def close(self) -> None:
        """End; safe to call again."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
        self._stop_reading()
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None
            self._context.term()
