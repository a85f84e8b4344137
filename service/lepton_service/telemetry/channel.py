"""From further front ends to the first, which serves the metrics of all: records of calls, a few times a second.

The address is a socket file in a folder of this user alone. The front ends that the first one starts find it in their
environment. Records that the first front end does not take in (it has ended) are dropped.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from lepton_service.telemetry.record import CallRecord

ADDRESS_VARIABLE = "LEPTON_TELEMETRY_CHANNEL"
FLUSH_SECONDS = 0.25
MAX_UNSENT_BATCHES = 1000
LINGER_MILLISECONDS = 500

_log = logging.getLogger("lepton.telemetry")


class Collector:
    """The first front end's end. Tells its address to the processes that this one starts from now on."""

    def __init__(self, record: Callable[[CallRecord], None]) -> None:
        self._record = record
        self._folder = tempfile.TemporaryDirectory(prefix="lepton-telemetry-")
        self.address = f"ipc://{Path(self._folder.name) / 'records'}"
        os.environ[ADDRESS_VARIABLE] = self.address
        self._context: zmq.asyncio.Context | None = None
        self._decoder = msgspec.msgpack.Decoder(list[CallRecord])
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to take records in."""
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind(self.address)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self._take(await self._socket.recv())

    def _take(self, payload: bytes) -> None:
        try:
            records = self._decoder.decode(payload)
        except msgspec.MsgspecError as error:
            _log.warning("records of another front end cannot be read: %s", error)
            return
        for record in records:
            self._record(record)

    async def close(self) -> None:
        """Takes in what has come, and ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            while await self._socket.poll(0):
                self._take(await self._socket.recv())
        if os.environ.get(ADDRESS_VARIABLE) == self.address:
            del os.environ[ADDRESS_VARIABLE]
        if self._context is not None:
            self._socket.close(0)
            self._context.term()
        self._folder.cleanup()


class Sender:
    """A further front end's end. Never blocks."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, MAX_UNSENT_BATCHES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MILLISECONDS)
        self._socket.connect(address)
        self._encoder = msgspec.msgpack.Encoder()
        self._records: list[CallRecord] = []
        self._timer: asyncio.TimerHandle | None = None

    def record(self, record: CallRecord) -> None:
        """Sends a record, soon."""
        self._records.append(record)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Sends what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        records, self._records = self._records, []
        if records:
            try:
                self._socket.send(self._encoder.encode(records), zmq.NOBLOCK)
            except zmq.Again:
                _log.debug("%d records of calls are dropped", len(records))

    def close(self) -> None:
        """Sends what there is, and ends."""
        self.flush()
        self._socket.close()
        self._context.term()
