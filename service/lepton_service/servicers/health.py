"""grpc.health.v1: who is serving. Its watches end when the server closes, which the reference servicer's do not."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse

from lepton_service.health import HealthBoard
from lepton_service.waiting import any_set

Context = grpc.aio.ServicerContext[Any, Any]


class HealthServicer:
    """Reads a board.

    Args:
        closing: set when the server ends its own streams.
    """

    def __init__(self, board: HealthBoard, closing: asyncio.Event) -> None:
        self._board = board
        self._closing = closing

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        """The status now; NOT_FOUND for an unknown service, as the protocol says."""
        status = self._board.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service[:200]!r}")
        return HealthCheckResponse(status=status)

    async def List(self, request: HealthListRequest, context: Context) -> HealthListResponse:
        """All statuses."""
        statuses = {name: HealthCheckResponse(status=status) for name, status in self._board.statuses().items()}
        return HealthListResponse(statuses=statuses)

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:
        """The status now and at every change."""
        sent = None
        while True:
            change = self._board.next_change()
            status = self._board.status(request.service)
            if status is None:
                status = HealthCheckResponse.SERVICE_UNKNOWN
            if status != sent:
                await context.write(HealthCheckResponse(status=status))
                sent = status
            if self._closing.is_set():
                return
            await any_set(change, self._closing)
