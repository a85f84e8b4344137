"""A front end from start to end: answers health at once, loads the model, serves, drains."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from lepton_service.attachments import Attachment
from lepton_service.drain import drain
from lepton_service.options import ServerOptions
from lepton_service.server import Listener, control_listener, inference_listener
from lepton_service.state import ServerState
from lepton_service.supervisor import EngineSupervisor, Keeper, MakeEngine

FAILURE_GRACE_SECONDS = 2.0
EXIT_OK, EXIT_FAILED, EXIT_CUT_SHORT = 0, 1, 143

_log = logging.getLogger("lepton.serve")


@dataclass
class Stop:
    """Asks a running server to end. `now` cuts its drain short."""

    begin: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)

    def signal(self) -> None:
        """What SIGTERM and SIGINT do: the first begins the drain, the second ends at once."""
        if self.begin.is_set():
            self.now.set()
        self.begin.set()


class FrontEnd:
    """One process that serves one engine: listeners, attachments, the keeper of its engine, and their order.

    Args:
        make_engine: creates the engine (importing what it needs) without loading the model.
        index: number of this front end among those that share an engine. The first, 0, has the control port and
            keeps the engine running; the others follow its announcements.

    Attributes:
        keeper: gives the state its engine.
        attachments: what starts after the gRPC listeners and drains with the inference port; see `attach`.
        observers: attachments that end last.
    """

    def __init__(self, options: ServerOptions, model_name: str, make_engine: MakeEngine, index: int = 0) -> None:
        self.options = options
        self.index = index
        self.state = ServerState(
            model_name, max_stream_seconds=options.max_stream_seconds, max_request_bytes=options.max_request_bytes
        )
        self.stop = Stop()
        self.failure: Exception | None = None
        self.keeper: Keeper = EngineSupervisor(self.state, make_engine)
        self.inference: Listener | None = None
        self.control: Listener | None = None
        self.attachments: list[Attachment] = []
        self.observers: list[Attachment] = []

    def attach(self, attachment: Attachment, *, last: bool = False) -> None:
        """Gives the front end another port or task of its own; before `start`.

        Args:
            last: it ends after every call has (metrics), rather than draining along with the inference port (HTTP).
        """
        (self.observers if last else self.attachments).append(attachment)

    async def start(self) -> None:
        """Listens and answers health; loads nothing yet.

        Raises:
            PortInUseError, TLSError.
        """
        self.inference = inference_listener(self.state, self.options, self.keeper.on_error)
        if self.index == 0:
            self.control = control_listener(self.state, self.options, self.keeper.on_error)
        await self.inference.start()
        security = "plaintext" if self.options.tls is None else "TLS" if self.options.tls.client_ca is None else "mTLS"
        _log.info("inference on %s:%d (%s)", self.options.host, self.inference.port, security)
        if self.control is not None:
            await self.control.start()
            _log.info("control on %s:%d (plaintext)", self.options.control_host, self.control.port)
        for attachment in (*self.observers, *self.attachments):
            await attachment.start()

    async def run(self) -> int:
        """Loads the model and serves until asked to stop.

        Returns:
            The exit status: 0 after a clean drain, 143 after one that was cut short, 1 without an engine to be had.
        """
        assert self.inference is not None, "start() comes first"
        life = asyncio.create_task(self.keeper.run())
        stopped = asyncio.create_task(self.stop.begin.wait())
        await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (life, stopped):
            task.cancel()
        await asyncio.wait({life, stopped})
        if not life.cancelled():
            self.failure = life.result()
            _log.error("%s: %s", type(self.failure).__name__, self.failure)
            self.state.mark_failed()
            await self.inference.stop(FAILURE_GRACE_SECONDS)  # calls end by the engine's error: let them say so
            for attachment in (*self.attachments, *self.observers):
                await attachment.stop(0.0)
            if self.control is not None:
                await self.control.cancel()
            if self.state.engine is not None:
                await self.state.engine.shutdown()
            return EXIT_FAILED
        clean = await drain(
            self.state, self.inference, self.control, self.options, self.stop.now, self.attachments, self.observers
        )
        return EXIT_OK if clean else EXIT_CUT_SHORT


async def serve(
    options: ServerOptions, model_name: str, make_engine: MakeEngine, attach: Callable[[FrontEnd], None] | None = None
) -> int:
    """Runs a front end until SIGTERM or SIGINT; the second signal ends it at once.

    Args:
        attach: gives the front end its attachments, before it starts.

    Returns:
        The exit status; see `FrontEnd.run`.

    Raises:
        PortInUseError, TLSError: before anything is loaded.
    """
    front = FrontEnd(options, model_name, make_engine)
    if attach is not None:
        attach(front)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, front.stop.signal)
    await front.start()
    return await front.run()
