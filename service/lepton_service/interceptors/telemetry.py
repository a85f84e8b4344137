"""Telling telemetry of every call."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from lepton_service.calls import Call, current_call
from lepton_service.interceptors.outcome import outcome
from lepton_service.interceptors.wrapping import Behaviour, WrappingInterceptor


class CallObserver(Protocol):
    """Who is told of calls."""

    def begin(self, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> Any:
        """A call begins; what `end` is to be given."""

    def end(self, span: Any, call: Call, code: str, seconds: float) -> None:
        """A call has ended with a status, after so many seconds."""


class TelemetryInterceptor(WrappingInterceptor):
    """Tells an observer when calls begin and end; within the access log, which names their trace.

    Args:
        methods: paths of those that are told of. The names of others are whatever clients send: where callers are asked
            who they are, such calls, too, come to a handler.
    """

    def __init__(self, observer: CallObserver, methods: Collection[str]) -> None:
        self._observer = observer
        self._methods = methods

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        """See `WrappingInterceptor.around`."""
        if method not in self._methods:
            return behaviour

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
