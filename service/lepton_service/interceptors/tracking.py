"""Counting the calls in flight."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

from typing import Any

from lepton_service.calls import CallTracker
from lepton_service.interceptors.wrapping import Behaviour, WrappingInterceptor


class TrackingInterceptor(WrappingInterceptor):
    """Keeps a tracker's count of the calls whose handlers run."""

    def __init__(self, tracker: CallTracker) -> None:
        self._tracker = tracker

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        """See `WrappingInterceptor.around`."""

        async def counted(request: Any, context: Any) -> Any:
            self._tracker.enter()
            try:
                return await behaviour(request, context)
            finally:
                self._tracker.leave()

        return counted
