"""From ASGI to a handler: reads the body, runs the handler, stops it when the client goes, answers its errors."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lepton_service.http import body
from lepton_service.http.errors import HTTPError, from_status, json_field
from lepton_service.http.exchange import Exchange, Receive, Scope, Send
from lepton_service.http.in_process import CallError
from lepton_service.state import ServerState

KEEP_ALIVE_SECONDS = 15.0

_log = logging.getLogger("lepton.http")

Handler = Callable[[Exchange, bytes], Awaitable[None]]
Check = Callable[[Exchange], Awaitable[None]]


@dataclass
class Running:
    """The handlers that run. `cut` is what ends them when a drain is cut short."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    def add(self, task: asyncio.Task[None]) -> None:
        """A handler begins."""
        self.tasks.add(task)
        self.idle.clear()

    def discard(self, task: asyncio.Task[None]) -> None:
        """A handler has ended."""
        self.tasks.discard(task)
        if not self.tasks:
            self.idle.set()

    def cut(self) -> None:
        """Cancels them all; their clients are told."""
        for task in self.tasks:
            task.cancel()


class Endpoint:
    """An ASGI application for one path.

    Args:
        takes_body: whether it is a POST of JSON.
        check: raises before the body is read where the caller may not call at all.
    """

    def __init__(
        self, state: ServerState, running: Running, handler: Handler, *, takes_body: bool, check: Check
    ) -> None:
        self._state = state
        self._running = running
        self._handler = handler
        self._takes_body = takes_body
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        exchange = Exchange(scope, receive, send, lambda: self._state.draining)
        work = asyncio.create_task(self._handle(exchange))
        gone = asyncio.create_task(exchange.gone())
        self._running.add(work)
        try:
            await self._attend(exchange, work, gone)
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.wait({work, gone})
            self._running.discard(work)

    async def _attend(self, exchange: Exchange, work: asyncio.Task[None], gone: asyncio.Task[None]) -> None:
        """Waits for the handler's end, or the client's: then the handler is stopped."""
        done: set[asyncio.Task[None]] = set()
        while not done:
            done, _ = await asyncio.wait({work, gone}, timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await exchange.keep_alive(KEEP_ALIVE_SECONDS)
        if exchange.complete:
            await asyncio.wait({work})
        elif work.cancelled():  # by a drain that is cut short
            await exchange.refuse(HTTPError(503, "the server ends", code="server_ends", retry_after=1.0, close=True))

    async def _handle(self, exchange: Exchange) -> None:
        try:
            await self._check(exchange)
            data = b""
            if self._takes_body:
                data = await body.read(exchange.headers, exchange.receive, self._state.max_request_bytes)
            exchange.is_read.set()
            await self._handler(exchange, data)
        except HTTPError as error:
            await exchange.refuse(error)
        except CallError as error:
            await exchange.refuse(from_status(error.status, json_field))
        except ConnectionError:
            return
        except Exception:
            _log.exception("a handler failed")
            await exchange.refuse(HTTPError(500, "internal error; see the server's log", code="internal"))
