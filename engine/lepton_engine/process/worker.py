"""The engine's process: `python -m lepton_engine.process.worker`, started by `ProcessCarrier`.

Its standard input brings the settings and then stays open for as long as the parent lives: when it closes, the
process ends. Messages go over a ZeroMQ ROUTER socket, one DEALER per front end.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import msgspec
import zmq

from lepton_engine import logs
from lepton_engine.errors import LeptonError
from lepton_engine.messages import Command, Dead, DropClient, EngineSettings, Heartbeat, Ready, Replies
from lepton_engine.process.progress import Progress

logger = logging.getLogger(__name__)

CLIENT_TIMEOUT = 30.0
GRACE_SECONDS = 10.0


class WorkerSettings(msgspec.Struct, frozen=True):
    """The first and only message on standard input.

    Attributes:
        progress: path of the memory shared with the parent; see `Progress`.
        suspects, convicts: fingerprints of requests that a former process died of; see `Quarantine`.
    """

    address: str
    engine: EngineSettings
    log_level: int
    progress: str
    suspects: list[tuple[bytes, int]] = []
    convicts: list[bytes] = []


class RouterTransport:
    """The loop's end of the sockets; knows which front ends live by their messages.

    Attributes:
        greeting: what a front end is told when it is first heard of; None while there is nothing to tell.
    """

    def __init__(self, address: str, progress: Progress) -> None:
        self._progress = progress
        self.greeting: Replies | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.bind(address)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Command)
        self._seen: dict[str, float] = {}
        self._last_receive = time.monotonic()

    def receive(self, timeout: float) -> list[tuple[str, Command]]:
        """See `Transport.receive`."""
        commands: list[tuple[str, Command]] = []
        self._progress.turn()
        if self._socket.poll(int(timeout * 1000)):
            while True:
                try:
                    identity, payload = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                client = identity.hex()
                if client not in self._seen and self.greeting is not None:
                    self.send_replies(client, self.greeting)
                self._seen[client] = time.monotonic()
                command = self._decoder.decode(payload)
                if isinstance(command, DropClient):
                    # The name as its front end gave it to the socket; here clients are known by its bytes.
                    command = DropClient(client=command.client.encode().hex())
                    self._seen.pop(command.client, None)
                if not isinstance(command, Heartbeat):
                    commands.append((client, command))
        self._last_receive = time.monotonic()
        return commands

    def send_replies(self, client: str, replies: Replies) -> None:
        """See `Transport.send_replies`; replies to a client that has gone are dropped by the socket."""
        self._socket.send_multipart([bytes.fromhex(client), self._encoder.encode(replies)])

    def broadcast(self, replies: Replies) -> None:
        """Send to every client seen so far."""
        for client in self._seen:
            self.send_replies(client, replies)

    @property
    def has_clients(self) -> bool:
        """Whether any client has been heard of."""
        return bool(self._seen)

    def lost_clients(self) -> list[str]:
        """See `Transport.lost_clients`: those silent for longer than their heartbeat allows."""
        # Measured at the last receive, so that a long step is not taken for the clients' silence.
        horizon = self._last_receive - CLIENT_TIMEOUT
        lost = [client for client, seen in self._seen.items() if seen < horizon]
        for client in lost:
            del self._seen[client]
        return lost

    def close(self) -> None:
        """Flush and close."""
        self._socket.close()
        self._context.term()


def main() -> int:
    """Run until the parent goes."""
    # Ctrl-C reaches the whole process group, and a service manager may send SIGTERM to every process of a service; the
    # front end, which has streams to finish, decides when the engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    settings = msgspec.msgpack.decode(sys.stdin.buffer.read(size), type=WorkerSettings)
    logs.set_up(settings.log_level)
    stopping, loaded = threading.Event(), threading.Event()
    progress = Progress(Path(settings.progress))
    transport = RouterTransport(settings.address, progress)
    threading.Thread(target=_watch_parent, args=(stopping, loaded), daemon=True).start()
    _wait_for_parent(transport)
    try:
        from lepton_engine.build import build_core

        core = build_core(settings.engine, recorder=progress)
        core.quarantine(settings.suspects, settings.convicts)
    except Exception as error:
        if not isinstance(error, LeptonError):
            logger.exception("the engine could not start")
        kind = type(error).__name__ if isinstance(error, LeptonError) else "LeptonError"
        transport.broadcast([Dead(kind, str(error))])
        transport.close()
        return 1
    # A full collection would look at all that was loaded, and hold a step up for a tenth of a second.
    gc.collect()
    gc.freeze()
    loaded.set()
    transport.greeting = [Ready(core.info)]
    transport.broadcast(transport.greeting)
    progress.mark_loaded()
    try:
        core.run(transport, stopping.is_set)
    except Exception:
        logger.exception("the engine's loop has failed")
        transport.broadcast([Dead("EngineDeadError", "its loop has failed")])
        return 1
    finally:
        transport.close()
    return 0


def _wait_for_parent(transport: RouterTransport) -> None:
    """Wait for the parent's first heartbeat, so that it hears of the outcome of loading."""
    while not transport.has_clients:
        transport.receive(1.0)


def _watch_parent(stopping: threading.Event, loaded: threading.Event) -> None:
    """End with the parent: its end of the pipe closes whichever way it dies."""
    while os.read(0, 4096):
        pass
    stopping.set()
    if not loaded.is_set():
        os._exit(0)  # Nobody waits for the model any more, and there is nothing to clean up.
    # A loop that hangs in a step must not outlive its parent either. This thread is a daemon: it holds up no exit.
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
