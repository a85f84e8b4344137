"""Counting the calls in flight."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from lepton_service.calls import CallTracker
from lepton_service.interceptors.wrapping import Behaviour, wrap


class TrackingInterceptor(grpc.aio.ServerInterceptor):
    """Keeps a tracker's count of the calls whose handlers run."""

    def __init__(self, tracker: CallTracker) -> None:
        self._tracker = tracker

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        return handler and wrap(handler, self._around)

    def _around(self, behaviour: Behaviour) -> Behaviour:
        async def counted(request: Any, context: Any) -> Any:
            self._tracker.enter()
            try:
                return await behaviour(request, context)
            finally:
                self._tracker.leave()

        return counted
