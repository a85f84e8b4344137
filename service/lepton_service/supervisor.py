"""Keeping an engine running: starts it, notices its end, starts it anew."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from lepton_engine.errors import EngineDeadError, LeptonError
from lepton_service.engine_api import Engine
from lepton_service.errors import EngineUnavailableError
from lepton_service.restarts import RestartPolicy
from lepton_service.state import ServerState
from lepton_service.waiting import any_set

WATCH_SECONDS = 0.5

_log = logging.getLogger("lepton.engine")

MakeEngine = Callable[[], Awaitable[Engine]]


class Keeper(Protocol):
    """Gives a server's state its engine, and takes it away when it has ended."""

    async def run(self) -> Exception:
        """Returns when there will be no engine any more, and why. Cancelled when the server drains."""

    def on_error(self, error: Exception) -> None:
        """A call has failed; an engine that has ended is noticed by it."""


class EngineSupervisor:
    """Owns the life of the engine of one server.

    An error that another start would meet again (a damaged checkpoint, too little memory) ends the first start for
    good. Once the model has been ready, and when the engine's process just ended, the engine is started again by the
    policy; meanwhile the named services are NOT_SERVING and calls get UNAVAILABLE with the time to wait.

    Args:
        make_engine: creates an engine (importing what it needs) without loading the model.
    """

    def __init__(self, state: ServerState, make_engine: MakeEngine, policy: RestartPolicy | None = None) -> None:
        self._state = state
        self._make_engine = make_engine
        self._policy = policy or RestartPolicy()
        self._suspected = asyncio.Event()
        self._was_ready = False

    def on_error(self, error: Exception) -> None:
        """See `Keeper.on_error`."""
        if isinstance(error, EngineDeadError):
            self._suspected.set()

    async def run(self) -> Exception:
        """See `Keeper.run`."""
        while True:
            ready_seconds, error = await self._live()
            if not self._was_ready and not isinstance(error, EngineDeadError):
                return error
            self._state.mark_restarting(0.0)
            _log.error("%s: %s", type(error).__name__, error)
            delay = self._policy.after_end(ready_seconds)
            if delay is None:
                return EngineUnavailableError(f"the engine could not be started again: {error}")
            self._state.mark_restarting(delay)
            if self._state.engine is not None:
                await self._state.engine.shutdown()
            _log.warning("the engine is started again in %g s", delay)
            await asyncio.sleep(delay)

    async def _live(self) -> tuple[float | None, Exception]:
        """One engine from its making to its end: how long it was ready (None: never), and why it ended."""
        ready_since: float | None = None
        try:
            engine = await self._make_engine()
            self._state.engine = engine
            await engine.start()
            self._suspected.clear()
            ready_since = time.monotonic()
            self._was_ready = True
            self._state.mark_ready(engine)
            _log.info("model %s is ready", self._state.model_name)
            error: Exception = await self._end_of(engine)
        except LeptonError as problem:
            error = problem
        except Exception as problem:
            _log.exception("the engine failed")
            error = problem
        return None if ready_since is None else time.monotonic() - ready_since, error

    async def _end_of(self, engine: Engine) -> Exception:
        """Returns when the engine has ended. One that does not answer is not taken for one that has: its own
        watchdog ends it when its step makes no progress."""
        asking = asyncio.ensure_future(engine.stats())
        try:
            while True:
                await asyncio.wait({asking}, timeout=WATCH_SECONDS)
                if not asking.done():
                    continue
                if (error := asking.exception()) is not None:
                    return error if isinstance(error, Exception) else EngineDeadError(str(error))
                await any_set(self._suspected, within=WATCH_SECONDS)
                self._suspected.clear()
                asking = asyncio.ensure_future(engine.stats())
        finally:
            asking.cancel()
