"""The engine's process: `python -m lepton_engine.process.worker`, started by `ProcessCarrier`.

Its standard input brings the settings and then stays open for as long as the parent lives: when it closes, the
process ends. Messages go over a ZeroMQ ROUTER socket, one DEALER per front end.
"""

import logging
import os
import signal
import sys
import threading
import time

import msgspec
import zmq

from lepton_engine.errors import LeptonError
from lepton_engine.messages import Command, Dead, EngineSettings, Heartbeat, Ready, Replies

logger = logging.getLogger(__name__)

CLIENT_TIMEOUT = 30.0
GRACE_SECONDS = 10.0


class WorkerSettings(msgspec.Struct, frozen=True):
    """The first and only message on standard input."""

    address: str
    engine: EngineSettings
    log_level: int


class RouterTransport:
    """The loop's end of the sockets; knows which front ends live by their messages."""

    def __init__(self, address: str) -> None:
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
        if self._socket.poll(int(timeout * 1000)):
            while True:
                try:
                    identity, payload = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                client = identity.hex()
                self._seen[client] = time.monotonic()
                command = self._decoder.decode(payload)
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
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping, loaded = threading.Event(), threading.Event()
    transport = RouterTransport(settings.address)
    threading.Thread(target=_watch_parent, args=(stopping, loaded), daemon=True).start()
    clients = _first_clients(transport)
    try:
        from lepton_engine.build import build_core

        core = build_core(settings.engine)
    except Exception as error:
        if not isinstance(error, LeptonError):
            logger.exception("the engine could not start")
        kind = type(error).__name__ if isinstance(error, LeptonError) else "LeptonError"
        for client in clients:
            transport.send_replies(client, [Dead(kind, str(error))])
        transport.close()
        return 1
    loaded.set()
    for client in clients:
        transport.send_replies(client, [Ready(core.info)])
    core.run(transport, stopping.is_set)
    transport.close()
    return 0


def _first_clients(transport: RouterTransport) -> list[str]:
    """Wait for the parent's first heartbeat, so that it hears of the outcome of loading."""
    while not transport._seen:
        transport.receive(1.0)
    return list(transport._seen)


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
