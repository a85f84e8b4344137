"""A gRPC client on bare HTTP/2: shows every trailer, and reads no more than it is told to."""

import asyncio
import socket
from types import TracebackType
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings


class RawCall:
    """One unary or server-streaming call on a connection of its own.

    Args:
        window: bytes that the server may send before it is told that they have been read; None reads everything.
    """

    def __init__(self, target: str, method: str, message: bytes, window: int | None = None) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._method = method
        self._message = message
        self._window = window
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.received = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "RawCall":
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=4096)
        peer: socket.socket = self._writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        if self._window is not None:
            initial = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
            self._h2.local_settings = h2.settings.Settings(client=True, initial_values={initial: self._window})
        self._h2.initiate_connection()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": self._method,
            ":authority": f"{self._host}:{self._port}",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        self._h2.send_headers(1, list(headers.items()))
        self._h2.send_data(1, b"\0" + len(self._message).to_bytes(4, "big") + self._message, end_stream=True)
        self._flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())

    async def until(self, *kinds: type[Any]) -> Any:
        """Serves the connection until an event of one of these kinds, which is returned."""
        while True:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("the server has closed the connection")
            found = None
            for event in self._h2.receive_data(data):
                self._note(event)
                if found is None and isinstance(event, kinds):
                    found = event
            self._flush()
            if found is not None:
                return found

    def _note(self, event: Any) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.headers = _texts(event.headers)
            if event.stream_ended is not None:
                self.trailers = self.headers
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers = _texts(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.received += len(event.data)
            if self._window is None:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    async def end(self) -> dict[str, str]:
        """The trailers, once the call has ended."""
        await self.until(h2.events.StreamEnded)
        return self.trailers


def _texts(headers: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}
