"""The HTTP server of a front end, in the same event loop as its gRPC servers."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn

from lepton_service.app import FrontEnd
from lepton_service.http.app import http_app
from lepton_service.http.endpoint import Running
from lepton_service.http.options import HTTPOptions
from lepton_service.http.protocol import Protocol
from lepton_service.server import PortInUseError

BACKLOG = 2048
IDLE_SECONDS = 75
# A peer that has vanished is found by the kernel: after so much silence, by so many probes, or by data unacknowledged.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000))

_log = logging.getLogger("lepton.serve")


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the front end has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


class HTTPServer:
    """The HTTP port, as an attachment of a front end.

    Args:
        front: whose inference port asks of a call what this one asks, TLS and interceptors alike.

    Attributes:
        port: where it listens, known once `start` has returned.
    """

    def __init__(self, front: FrontEnd, options: HTTPOptions) -> None:
        self.port = 0
        self.options = options
        self.running = Running()
        self._front = front
        self._closing = asyncio.Event()
        self._server: _Server | None = None
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to take requests.

        Raises:
            PortInUseError, TLSError.
        """
        inference = self._front.inference
        assert inference is not None, "attachments start after the listeners"
        app = http_app(
            self._front.state,
            inference.interceptors,
            self.options,
            self.running,
            self._closing,
            inference.authentication,
        )
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
        )
        config.load()
        config.ssl = None if inference.tls is None else inference.tls.context()
        listening = _listening(self.options.host, self.options.port, reuse=self._front.options.reuse_port)
        self.port = listening.getsockname()[1]
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._server = _Server(config)
        self._life = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started and not self._life.done():  # noqa: ASYNC110 (uvicorn sets no event)
            await asyncio.sleep(0.005)
        if self._life.done():
            await self._life
        scheme = "http" if inference.tls is None else "https"
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        _log.info("%s on %s:%d", scheme, host, self.port)

    async def stop(self, grace: float) -> None:
        """Takes no more requests, and waits `grace` seconds at most for those that run.

        Those that do not end by themselves are told that the server ends. May be called again with less.
        """
        if self._life is None or self._server is None:
            return
        self._closing.set()
        self._server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.running.idle.wait()
        self.running.cut()
        await self.running.idle.wait()  # their clients are being told
        self._server.force_exit = True
        await asyncio.wait({self._life})


def _listening(host: str, port: int, *, reuse: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        reuse: the port is shared by the front ends of this server.

    Raises:
        PortInUseError: the address is taken, or is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        found.bind((host, port))
        found.listen(BACKLOG)
        found.setblocking(False)
    except OSError as error:
        found.close()
        raise PortInUseError(f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}") from error
    return found
