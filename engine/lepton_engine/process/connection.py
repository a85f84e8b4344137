"""The front door's side of the loop, whichever way messages are carried. Imports no torch."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Protocol

from lepton_engine.core.events import Event
from lepton_engine.errors import EngineDeadError, LeptonError, error_of
from lepton_engine.messages import (
    Admitted,
    Answer,
    Command,
    Dead,
    EngineStats,
    ModelInfo,
    Query,
    Ready,
    Replies,
)

OnEvent = Callable[[Admitted | Event], None]


class Carrier(Protocol):
    """Brings commands to a loop and its replies back to `deliver`, in the event loop that `start` ran in."""

    async def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """Start the loop's side; `Ready` or `Dead` is its first reply. `died` is called when it ends unasked."""

    def send(self, command: Command) -> None:
        """Send a command; never blocks."""

    def kill(self) -> None:
        """Let `stop` end the loop's side without waiting for its step, where that can be done."""

    async def stop(self) -> None:
        """End the loop's side and wait until it has gone; safe to call again."""


class Connection:
    """Commands out, replies sorted: events to the request's callback, answers to who asked.

    Lives in one asyncio event loop.
    """

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._ready: asyncio.Future[ModelInfo] | None = None
        self._requests: dict[str, OnEvent] = {}
        self._on_death: dict[str, Callable[[LeptonError], None]] = {}
        self._queries: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count()
        self._dead: LeptonError | None = None

    async def start(self) -> ModelInfo:
        """Start the engine and wait until its model is loaded.

        Raises:
            LeptonError: why it could not start.
        """
        self._ready = asyncio.get_running_loop().create_future()
        try:
            await self._carrier.start(self._deliver, self._died)
            return await self._ready
        except BaseException:
            await self._carrier.stop()
            raise

    @property
    def dead(self) -> LeptonError | None:
        """Why the engine no longer runs; None while it does."""
        return self._dead

    def open(self, key: str, command: Command, on_event: OnEvent, on_death: Callable[[LeptonError], None]) -> None:
        """Submit a request and route its events until `close`.

        Raises:
            EngineDeadError: the engine has ended.
        """
        self._check_alive()
        self._requests[key] = on_event
        self._on_death[key] = on_death
        self._carrier.send(command)

    def close(self, key: str) -> None:
        """Route no more events of the request."""
        self._requests.pop(key, None)
        self._on_death.pop(key, None)

    def send(self, command: Command) -> None:
        """Send a command that needs no reply; nothing happens when the engine has ended."""
        if self._dead is None:
            self._carrier.send(command)

    async def query(self, *, integrity: bool = False) -> tuple[EngineStats, list[str]]:
        """The engine's statistics and, when asked for, what is inconsistent in its state.

        Raises:
            EngineDeadError: the engine has ended.
        """
        self._check_alive()
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queries[number] = future
        try:
            self._carrier.send(Query(number=number, integrity=integrity))
            answer = await future
        finally:
            self._queries.pop(number, None)
        return answer.stats, answer.problems

    def kill(self) -> None:
        """Let `stop` end the engine without waiting for its step."""
        self._carrier.kill()

    async def stop(self) -> None:
        """End the engine; what still runs fails with `EngineDeadError`."""
        self._end(EngineDeadError("the engine has been shut down"))
        await self._carrier.stop()

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise EngineDeadError(str(self._dead))

    def _deliver(self, replies: Replies) -> None:
        for reply in replies:
            if isinstance(reply, Ready):
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(reply.info)
            elif isinstance(reply, Dead):
                self._died(error_of(reply.kind, reply.message))
            elif isinstance(reply, Answer):
                future = self._queries.get(reply.number)
                if future is not None and not future.done():
                    future.set_result(reply)
            else:
                on_event = self._requests.get(reply.key)
                if on_event is not None:
                    on_event(reply)

    def _died(self, error: LeptonError) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        self._end(EngineDeadError(f"the engine has ended: {error}"))

    def _end(self, error: LeptonError) -> None:
        if self._dead is not None:
            return
        self._dead = error
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        for on_death in list(self._on_death.values()):
            on_death(error)
        for future in self._queries.values():
            if not future.done():
                future.set_exception(error)
