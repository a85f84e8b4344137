"""`lepton serve`: a model behind gRPC."""

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lepton_service.auth import AuthConfigError, exposure
from lepton_service.auth.options import add_auth_arguments, auth_options
from lepton_service.commands.admission_arguments import add_admission_arguments, admission_options
from lepton_service.commands.arguments import (
    add_engine_arguments,
    engine_options,
    port,
    positive_seconds,
    seconds,
    size,
)
from lepton_service.commands.flow_arguments import add_flow_arguments, flow_options
from lepton_service.frontends.options import add_front_end_arguments, front_end_options
from lepton_service.http.options import add_http_arguments, http_options
from lepton_service.options import CONTROL_PORT, INFERENCE_PORT, MAX_REQUEST_BYTES, ServerOptions, TLSFiles
from lepton_service.telemetry.options import add_telemetry_arguments, telemetry_options

if TYPE_CHECKING:
    from lepton_engine.engine import AsyncLeptonEngine
    from lepton_engine.process.options import ProcessOptions
    from lepton_service.app import FrontEnd
    from lepton_service.frontends.messages import Assignment

HELP = "serve a model over gRPC"
DESCRIPTION = """Serve a model over gRPC (lepton.v1).

Answers health at once, loads the model, then turns SERVING. SIGTERM and SIGINT drain: the named services turn
NOT_SERVING, new calls are taken for the propagation time, running ones may end within the drain timeout. A second
signal ends at once."""
EPILOG = """examples:
  lepton serve                                the embedded demonstration model
  lepton serve ~/models/llama-1b --dtype bfloat16
  lepton serve --port 0 --control-port 0      free ports, named in the log"""

EMBEDDED_NAME = "lepton-embedded"

_log = logging.getLogger("lepton.serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `lepton serve`."""
    parser.add_argument(
        "model", nargs="?", help="checkpoint folder or Hugging Face id in the local cache (default: the embedded model)"
    )
    parser.add_argument("--served-model-name", metavar="NAME", help="name that requests use (default: the folder's)")
    group = parser.add_argument_group("listening")
    group.add_argument("--host", default="127.0.0.1", help="address of the inference port (default: 127.0.0.1)")
    group.add_argument(
        "--port",
        type=port,
        default=INFERENCE_PORT,
        help=f"inference port, 0 for a free one (default: {INFERENCE_PORT})",
    )
    group.add_argument("--control-host", default="127.0.0.1", help="address of the control port (default: 127.0.0.1)")
    group.add_argument(
        "--control-port",
        type=port,
        default=CONTROL_PORT,
        help=f"plaintext port for health and statistics (default: {CONTROL_PORT})",
    )
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain of the inference port (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (PEM)")
    group.add_argument(
        "--tls-client-ca", type=Path, metavar="FILE", help="require client certificates of this authority (PEM)"
    )
    add_auth_arguments(parser)
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-request-bytes",
        type=size,
        default=MAX_REQUEST_BYTES,
        metavar="SIZE",
        help="largest request message (default: 16MiB)",
    )
    group.add_argument(
        "--max-stream-seconds",
        type=positive_seconds,
        metavar="S",
        help="end longer outputs with FINISH_REASON_TIME_LIMIT (default: no bound)",
    )
    add_admission_arguments(parser)
    add_flow_arguments(parser)
    group = parser.add_argument_group("end")
    group.add_argument(
        "--drain-propagation",
        type=seconds,
        default=5.0,
        metavar="S",
        help="take new calls for this long after SIGTERM (default: 5)",
    )
    group.add_argument(
        "--drain-timeout", type=seconds, default=60.0, metavar="S", help="then wait this long at most (default: 60)"
    )
    add_telemetry_arguments(parser)
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"], help="(default: info)"
    )
    add_front_end_arguments(parser)
    add_http_arguments(parser)
    add_engine_arguments(parser)


def server_options(args: argparse.Namespace) -> ServerOptions:
    """The server's settings from the command line.

    Raises:
        ValueError: flags of TLS or of authentication that do not go together.
    """
    tls = None
    if args.tls_cert is not None or args.tls_key is not None:
        if args.tls_cert is None or args.tls_key is None:
            raise ValueError("--tls-cert and --tls-key go together, one of them is missing")
        tls = TLSFiles(args.tls_cert, args.tls_key, args.tls_client_ca)
    elif args.tls_client_ca is not None:
        raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
    flow = flow_options(args)
    return ServerOptions(
        host=args.host,
        port=args.port,
        control_host=args.control_host,
        control_port=args.control_port,
        tls=tls,
        auth=auth_options(args),
        drain_propagation=args.drain_propagation,
        drain_timeout=args.drain_timeout,
        max_stream_seconds=args.max_stream_seconds,
        max_request_bytes=args.max_request_bytes,
        min_ping_interval=flow.min_ping_interval,
        keepalive_time=flow.keepalive_time,
        keepalive_timeout=flow.keepalive_timeout,
        max_connection_age=flow.max_connection_age,
    )


def run(args: argparse.Namespace) -> int:
    """Serves until told to stop.

    Returns:
        0 after a clean drain, 143 after one that was cut short, 1 when it could not start or the engine failed, 2 for
        flags that do not go together.
    """
    return _run(args, None)


def run_member(assignment: "Assignment") -> int:
    """Serves as a front end that another one has started; see `frontends.member`."""
    return _run(assignment.args, assignment)


def _run(args: argparse.Namespace, assignment: "Assignment | None") -> int:
    set_up_logs(args)
    try:
        processes = front_end_options(args)
        options = server_options(args)
        http = http_options(args)
        admission = admission_options(args)
        telemetry = telemetry_options(args)
    except ValueError as error:
        print(f"lepton serve: {error}", file=sys.stderr)
        return 2
    open_to_others = exposure.warning(
        [options.host, *([] if http is None else [http.host])],
        encrypted=options.tls is not None,
        asks=options.auth is not None or args.tls_client_ca is not None,
    )
    if open_to_others is not None and assignment is None:
        _log.warning("%s", open_to_others)
    name = args.served_model_name or (EMBEDDED_NAME if args.model is None else Path(args.model).resolve().name)
    from lepton_engine.process.options import ProcessOptions
    from lepton_engine.process.quarantine import Quarantine
    from lepton_service.app import EXIT_CUT_SHORT, FrontEnd, serve
    from lepton_service.frontends.member import follow
    from lepton_service.frontends.ports import reserve
    from lepton_service.frontends.siblings import Siblings
    from lepton_service.server import PortInUseError
    from lepton_service.tls import TLSError

    kept = ProcessOptions(processes.step_timeout, Quarantine())
    siblings: Siblings | None = None

    async def make_engine() -> "AsyncLeptonEngine":
        return await asyncio.to_thread(_engine, args, admission, kept)

    async def join(address: str) -> "AsyncLeptonEngine":
        assert assignment is not None
        joined = ProcessOptions(address=address, client=assignment.client)
        return await asyncio.to_thread(_engine, args, admission, joined)

    def attach(front: "FrontEnd") -> None:
        front.state.on_ready = _keep_what_is_loaded
        if telemetry is not None:
            from lepton_service.telemetry.telemetry import Telemetry

            front.state.observer = observer = Telemetry(telemetry, front.state, front.index)
            front.attach(observer, last=True)
        if http is not None:
            from lepton_service.http.server import HTTPServer

            front.attach(HTTPServer(front, http))
        if processes.count > 1 and front.index == 0:
            nonlocal siblings
            siblings = Siblings(front.state, args, processes.count)
            front.attach(siblings)

    async def member(index: int) -> int:
        front = FrontEnd(options, name, make_engine, index)
        attach(front)
        return await follow(front, join)

    reserved = []
    try:
        if processes.count > 1:
            if assignment is None:
                reserved = reserve(args)
                http = http_options(args)
            options = replace(server_options(args), reuse_port=True)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            if assignment is not None:
                return runner.run(member(assignment.index))
            status = runner.run(serve(options, name, make_engine, attach))
            return EXIT_CUT_SHORT if status == 0 and siblings is not None and siblings.cut_short else status
    except (PortInUseError, TLSError, AuthConfigError) as error:
        print(f"lepton serve: {error}", file=sys.stderr)
        return 1
    finally:
        for one in reserved:
            one.close()


def _keep_what_is_loaded() -> None:
    """Spares collections what has been loaded: a full one that looked at it would hold all streams up for 8 ms.

    What an engine that has ended left behind was spared, too, and goes now.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def set_up_logs(args: argparse.Namespace) -> None:
    """Logs as the command line wants them."""
    from lepton_engine import logs

    logs.set_up(args.log_level.upper(), args.log_format)


def _engine(args: argparse.Namespace, admission: dict[str, Any], process: "ProcessOptions") -> "AsyncLeptonEngine":
    """Imports the engine's front door and reads the tokenizer; the weights are read by `start` in another process."""
    from lepton_engine.engine import AsyncLeptonEngine

    model = args.model
    if model is None:
        from lepton_engine import embedded

        model = embedded.path()
    return AsyncLeptonEngine(
        model,
        max_unread_bytes=flow_options(args).max_unread_bytes,
        in_process=False,
        process=process,
        **admission,
        **engine_options(args),
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
