"""The metrics port: `GET /metrics` in Prometheus' formats, by prometheus_client's own server in a thread."""

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from lepton_service.server import PortInUseError

SILENCE_SECONDS = 10.0

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    """Logs nothing; a connection that sends nothing is closed."""

    timeout = SILENCE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a line."""


class MetricsPage:
    """The port.

    Attributes:
        host, port: where it listens; the port is known once `start` has returned.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._app = only_metrics(make_wsgi_app(registry))
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listens.

        Raises:
            PortInUseError: the address is taken, or is none of this machine.
        """

        class Server(ThreadingWSGIServer):
            address_family = socket.AF_INET6 if ":" in self.host else socket.AF_INET

        try:
            self._server = make_server(self.host, self.port, self._app, Server, handler_class=_Handler)
        except OSError as error:
            reason = error.strerror or error
            raise PortInUseError(f"cannot listen on {self.host}:{self.port} for metrics: {reason}") from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="lepton-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends; blocks for half a second at most."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def only_metrics(app: Application) -> Application:
    """The same for `GET /metrics`, and for nothing else."""

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"metrics are at /metrics\n"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Type", "text/plain")])
            return [b"allowed is GET\n"]
        return app(environ, start_response)

    return guarded
