"""A front end of Lepton that serves a suite's service beside its own, and loads no model.

    python -m conformance.server interop --descriptors FILE [--tls-cert FILE --tls-key FILE]
    python -m conformance.server connect --descriptors FILE      started by connectconformance: settings from stdin

Listeners, interceptors, channel arguments, TLS and drain are those of `lepton serve`: the FrontEnd itself runs. Its
model loads forever.
"""

import argparse
import asyncio
import logging
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from conformance.connect_service import PACKAGE, ConformanceService
from conformance.interop_service import InteropService
from conformance.schema import Schema
from lepton_service.app import FrontEnd, serve
from lepton_service.options import MAX_REQUEST_BYTES, ServerOptions, TLSFiles


class Suite:
    """Adds a service to a front end when its listeners are up, and says where they are; an attachment."""

    def __init__(self, front: FrontEnd, handlers: Any, announce: Any) -> None:
        self._front, self._handlers, self._announce = front, handlers, announce

    async def start(self) -> None:
        """Serves the service, too."""
        assert self._front.inference is not None
        self._front.inference.server.add_generic_rpc_handlers((self._handlers,))
        self._announce(self._front.inference.port)

    async def stop(self, grace: float) -> None:
        """The listener ends it."""


def run(options: ServerOptions, handlers: Any, announce: Any) -> int:
    """Serves until SIGTERM. Returns the exit status."""

    def attach(front: FrontEnd) -> None:
        front.attach(Suite(front, handlers, announce))

    return asyncio.run(serve(options, "conformance", _never, attach))


async def _never() -> Any:
    await asyncio.Event().wait()


def interop(args: argparse.Namespace) -> int:
    """The server that grpc-go's interop client and h2spec call."""
    tls = None if args.tls_cert is None else TLSFiles(args.tls_cert, args.tls_key)
    handlers = InteropService(Schema(args.descriptors)).handlers

    def announce(port: int) -> None:
        print(port, flush=True)

    return run(ServerOptions(port=0, control_port=0, tls=tls, drain_propagation=0.0), handlers, announce)


def connect(args: argparse.Namespace) -> int:
    """The server-under-test of connectconformance."""
    schema = Schema(args.descriptors)
    (size,) = struct.unpack(">I", sys.stdin.buffer.read(4))
    request = schema.message(f"{PACKAGE}.ServerCompatRequest").FromString(sys.stdin.buffer.read(size))
    with tempfile.TemporaryDirectory(prefix="lepton-conformance-") as folder:
        tls = _tls(request, Path(folder)) if request.use_tls else None

        def announce(port: int) -> None:
            response = schema.message(f"{PACKAGE}.ServerCompatResponse")(host="127.0.0.1", port=port)
            response.pem_cert = request.server_creds.cert if request.use_tls else b""
            answer = response.SerializeToString()
            sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
            sys.stdout.buffer.flush()

        options = ServerOptions(
            port=0,
            control_port=0,
            tls=tls,
            drain_propagation=0.0,
            drain_timeout=1.0,
            max_request_bytes=request.message_receive_limit or MAX_REQUEST_BYTES,
        )
        return run(options, ConformanceService(schema).handlers, announce)


def _tls(request: Any, folder: Path) -> TLSFiles:
    files = {"cert.pem": request.server_creds.cert, "key.pem": request.server_creds.key}
    client_ca = None
    if request.client_tls_cert:
        files["client.pem"] = request.client_tls_cert
        client_ca = folder / "client.pem"
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return TLSFiles(folder / "cert.pem", folder / "key.pem", client_ca)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=["interop", "connect"])
    parser.add_argument("--descriptors", type=Path, required=True)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    return interop(args) if args.suite == "interop" else connect(args)


if __name__ == "__main__":
    sys.exit(main())
