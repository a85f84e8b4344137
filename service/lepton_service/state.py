"""What all servicers share: the engine, how far it has come, and which requests are in flight."""

import asyncio
import enum
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lepton.v1.model_pb2 import ModelState
from lepton_engine.messages import EngineStats
from lepton_service.engine_api import Engine
from lepton_service.errors import (
    EngineUnavailableError,
    ModelLoadingError,
    RequestIdInUseError,
    ResourceNotFoundError,
)
from lepton_service.health import NOT_SERVING, SERVING, HealthBoard
from lepton_service.interceptors.telemetry import CallObserver

STATS_SECONDS = 3.0


class Phase(enum.Enum):
    """How far the engine has come."""

    LOADING = enum.auto()
    READY = enum.auto()
    RESTARTING = enum.auto()
    FAILED = enum.auto()


class ServerState:
    """The state of one front end.

    Attributes:
        model_name: the name that requests use.
        engine: None until it is created.
        draining: whether the server ends once its streams have.
        started: when the figures began to count, in seconds since the epoch: a restart of the engine begins anew.
        restarts: how often the engine was started again.
        observer: is told of calls, where there is telemetry; set before the listeners are made.
        health: the board that the health service reads.
        on_ready: called when the model is loaded, before the first request is taken; None does nothing.
        max_stream_seconds: bound of a stream; None for no bound.
    """

    def __init__(self, model_name: str, *, max_stream_seconds: float | None, max_request_bytes: int) -> None:
        self.model_name = model_name
        self.max_stream_seconds = max_stream_seconds
        self.max_request_bytes = max_request_bytes
        self.engine: Engine | None = None
        self.phase = Phase.LOADING
        self.draining = False
        self.started = time.time()
        self.restarts = 0
        self.observer: CallObserver | None = None
        self.health = HealthBoard()
        self.on_ready: Callable[[], None] | None = None
        self.retry_at = 0.0
        self._request_ids: set[tuple[str, str]] = set()

    def mark_ready(self, engine: Engine) -> None:
        """The model is loaded: the named services turn SERVING, unless a drain has begun."""
        if self.phase is Phase.RESTARTING:
            self.started = time.time()
            self.restarts += 1
        self.engine = engine
        if self.on_ready is not None:
            self.on_ready()
        self.phase = Phase.READY
        if not self.draining:
            self.health.set_named(SERVING)

    def mark_draining(self) -> None:
        """The server is to end: the named services turn NOT_SERVING, calls are still taken."""
        self.draining = True
        self.health.set_named(NOT_SERVING)

    def mark_restarting(self, delay: float) -> None:
        """The engine has ended and is started again in `delay` seconds: NOT_SERVING, requests are refused meanwhile."""
        self.phase = Phase.RESTARTING
        self.retry_at = time.monotonic() + delay
        self.health.set_named(NOT_SERVING)

    def mark_failed(self) -> None:
        """The engine has ended for good: the named services turn NOT_SERVING, requests are refused."""
        self.phase = Phase.FAILED
        self.health.set_named(NOT_SERVING)

    @property
    def model_state(self) -> ModelState.ValueType:
        """The phase in the contract's words."""
        if self.phase is Phase.FAILED:
            return ModelState.MODEL_STATE_FAILED
        if self.draining:
            return ModelState.MODEL_STATE_DRAINING
        return ModelState.MODEL_STATE_READY if self.phase is Phase.READY else ModelState.MODEL_STATE_LOADING

    def ready_engine(self) -> Engine:
        """The engine, if it takes requests.

        Raises:
            ModelLoadingError, EngineUnavailableError.
        """
        if self.phase is Phase.FAILED:
            raise EngineUnavailableError("the engine has ended")
        if self.phase is Phase.RESTARTING:
            wait = max(1.0, self.retry_at - time.monotonic())
            raise EngineUnavailableError("the engine has ended and is started again", wait)
        if self.phase is Phase.LOADING or self.engine is None:
            raise ModelLoadingError(f"model {self.model_name!r} is still loading")
        return self.engine

    async def engine_stats(self, within: float = STATS_SECONDS) -> EngineStats:
        """The engine's figures, within so many seconds also when a step hangs.

        Raises:
            ModelLoadingError, EngineUnavailableError, EngineDeadError.
        """
        engine = self.ready_engine()
        try:
            async with asyncio.timeout(within):
                return await engine.stats()
        except TimeoutError:
            raise EngineUnavailableError(f"the engine has not answered within {within:g} s", within) from None

    def check_model(self, name: str) -> None:
        """Raises ResourceNotFoundError unless `name` is this server's model, or empty."""
        if name and name != self.model_name:
            message = f"model {name!r} is not served here, this server has {self.model_name!r}"
            raise ResourceNotFoundError("model", name, message)

    @contextmanager
    def in_flight(self, tenant: str, request_id: str) -> Iterator[None]:
        """Holds a request's id for as long as it runs. Other tenants do not learn of it.

        Raises:
            RequestIdInUseError: another request of the tenant holds it.
        """
        if (tenant, request_id) in self._request_ids:
            raise RequestIdInUseError(f"request_id: a request {request_id!r} is in flight")
        self._request_ids.add((tenant, request_id))
        try:
            yield
        finally:
            self._request_ids.discard((tenant, request_id))
