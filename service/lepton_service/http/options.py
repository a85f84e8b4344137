"""Settings of the HTTP port."""

import argparse
import importlib.util
import re
from dataclasses import dataclass

from lepton_service.commands.arguments import port

HTTP_PORT = 8080

_ORIGIN = re.compile(r"https?://[^/\s*?#]+")


@dataclass(frozen=True)
class HTTPOptions:
    """Where the HTTP port listens. TLS, where the inference port has it, is the same.

    Attributes:
        port: 0 takes a free one.
        cors_origins: origins whose pages may call it from a browser; `*` allows all. Empty: none but its own.
    """

    port: int = HTTP_PORT
    host: str = "127.0.0.1"
    cors_origins: tuple[str, ...] = ()


def add_http_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the HTTP port."""
    group = parser.add_argument_group("HTTP")
    group.add_argument(
        "--http-port",
        type=port,
        nargs="?",
        const=HTTP_PORT,
        metavar="PORT",
        help=f"serve the OpenAI-compatible API and the playground here, 0 for a free port (default: off; {HTTP_PORT} "
        "without a value)",
    )
    group.add_argument(
        "--http-host", default="127.0.0.1", metavar="HOST", help="address of the HTTP port (default: 127.0.0.1)"
    )
    group.add_argument(
        "--http-cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin call the HTTP port, * for all; may be repeated (default: none)",
    )


def http_options(args: argparse.Namespace) -> HTTPOptions | None:
    """The settings from the command line; None without an HTTP port.

    Raises:
        ValueError: flags that do not go together, an origin that is none, or a missing package.
    """
    if args.http_port is None:
        if args.http_cors_origin:
            raise ValueError("--http-cors-origin needs --http-port")
        return None
    for origin in args.http_cors_origin:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"--http-cors-origin: {origin!r} is no origin, allowed is http(s)://host[:port] or *")
    for package in ("starlette", "uvicorn", "httptools"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"--http-port needs {package}: install lepton-service with the extra `http`")
    return HTTPOptions(args.http_port, args.http_host, tuple(args.http_cors_origin))
