"""StatsService: what the server is doing."""

import asyncio
import time
from typing import Any

import grpc

from lepton.v1 import stats_pb2_grpc
from lepton.v1.stats_pb2 import GetStatsRequest, GetStatsResponse, Stats, WatchStatsRequest, WatchStatsResponse
from lepton_service.converters import stats as convert
from lepton_service.converters.durations import seconds
from lepton_service.errors import InvalidFieldError
from lepton_service.state import Phase, ServerState
from lepton_service.waiting import any_set

MIN_INTERVAL_SECONDS = 0.01
MAX_INTERVAL_SECONDS = 3600.0
DEFAULT_INTERVAL_SECONDS = 1.0

Context = grpc.aio.ServicerContext[Any, Any]


class StatsServicer(stats_pb2_grpc.StatsServiceServicer):
    """Reads the engine's figures.

    Args:
        closing: set when the server ends its own streams, so that a drain waits for generation only.
    """

    def __init__(self, state: ServerState, closing: asyncio.Event) -> None:
        self._state = state
        self._closing = closing

    async def GetStats(self, request: GetStatsRequest, context: Context) -> GetStatsResponse:
        """The figures now."""
        return GetStatsResponse(stats=await self._stats())

    async def WatchStats(  # type: ignore[override]
        self, request: WatchStatsRequest, context: Context
    ) -> None:
        """The figures now and at every interval."""
        interval = _interval(request)
        while True:
            last = self._closing.is_set()
            await context.write(WatchStatsResponse(stats=await self._stats()))
            if last:
                return
            await any_set(self._closing, within=interval)

    async def _stats(self) -> Stats:
        state = self._state
        loading = state.phase is Phase.LOADING
        figures = None if loading else await state.engine_stats()
        return convert.stats(
            figures,
            model=state.model_name,
            now=time.time(),
            started=state.started,
            loading=loading,
            draining=state.draining,
            restarts=state.restarts,
        )


def _interval(request: WatchStatsRequest) -> float:
    if not request.HasField("interval"):
        return DEFAULT_INTERVAL_SECONDS
    interval = seconds(request.interval)
    if not MIN_INTERVAL_SECONDS <= interval <= MAX_INTERVAL_SECONDS:
        allowed = f"allowed is {MIN_INTERVAL_SECONDS:g} to {MAX_INTERVAL_SECONDS:g} s"
        raise InvalidFieldError("interval", f"{interval:g} s is out of range, {allowed}")
    return interval
