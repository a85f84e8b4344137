"""Telling telemetry of every call."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import grpc

from lepton_service.calls import Call, current_call
from lepton_service.interceptors.outcome import outcome
from lepton_service.interceptors.wrapping import Behaviour, wrap


class CallObserver(Protocol):
    """Who is told of calls."""

    def begin(self, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> Any:
        """A call begins; what `end` is to be given."""

    def end(self, span: Any, call: Call, code: str, seconds: float) -> None:
        """A call has ended with a status, after so many seconds."""


class TelemetryInterceptor(grpc.aio.ServerInterceptor):
    """Tells an observer when calls begin and end; within the access log, which names their trace."""

    def __init__(self, observer: CallObserver) -> None:
        self._observer = observer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        return handler and wrap(handler, self._around)

    def _around(self, behaviour: Behaviour) -> Behaviour:
        async def told(request: Any, context: Any) -> Any:
            call = current_call.get()
            if call is None:
                return await behaviour(request, context)
            began = time.monotonic()
            span = self._observer.begin(call, context.invocation_metadata() or ())
            cancelled = False
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                cancelled = True
                raise
            finally:
                self._observer.end(span, call, outcome(context, cancelled), time.monotonic() - began)

        return told
