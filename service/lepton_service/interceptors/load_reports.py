"""The load of the engine in the trailers of every call that asks it for work."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from lepton_engine.errors import LeptonError
from lepton_engine.messages import EngineStats
from lepton_service.errors import ServiceError
from lepton_service.health import GENERATION, SCORING
from lepton_service.interceptors.wrapping import Behaviour, WrappingInterceptor
from lepton_service.orca import TRAILER_KEY, load_report

FRESH_SECONDS = 0.5
_REPORTING = (f"/{GENERATION}/", f"/{SCORING}/")


class LoadReports:
    """The last report, renewed beside the calls that want it: no call waits for it.

    Args:
        stats: asks the engine.
    """

    def __init__(self, stats: Callable[[], Awaitable[EngineStats]], fresh: float = FRESH_SECONDS) -> None:
        self._stats = stats
        self._fresh = fresh
        self._report: bytes | None = None
        self._figures: EngineStats | None = None
        self._due = 0.0
        self._at = 0.0
        self._renewing: asyncio.Task[None] | None = None

    def renew(self) -> None:
        """Asks for new figures when the last ones are old."""
        if time.monotonic() >= self._due and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())

    @property
    def report(self) -> bytes | None:
        """The last one; None before the first, and while the engine gives none."""
        return self._report

    async def _renew(self) -> None:
        try:
            figures = await self._stats()
        except (LeptonError, ServiceError):
            # An engine that gives none is loading or ends: the calls themselves say so.
            self._report = self._figures = None
            return
        now = time.monotonic()
        self._report = load_report(figures, self._rates(figures, now))
        self._figures, self._at, self._due = figures, now, now + self._fresh

    def _rates(self, figures: EngineStats, now: float) -> tuple[float, float]:
        before = self._figures
        if before is None or now <= self._at or figures.uptime < before.uptime:
            return 0.0, 0.0
        span = now - self._at
        errors = figures.num_failed + figures.num_rejected - before.num_failed - before.num_rejected
        ended = figures.num_finished + figures.num_aborted - before.num_finished - before.num_aborted
        return (ended + errors) / span, errors / span


class LoadReportInterceptor(WrappingInterceptor):
    """Puts the engine's load into the trailers of generation and scoring, whatever their status."""

    def __init__(self, reports: LoadReports) -> None:
        self._reports = reports

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        """See `WrappingInterceptor.around`."""
        if not method.startswith(_REPORTING):
            return behaviour

        async def reported(request: Any, context: Any) -> Any:
            self._reports.renew()
            try:
                return await behaviour(request, context)
            finally:
                self._reports.renew()
                report = self._reports.report
                if report is not None:
                    context.set_trailing_metadata((*(context.trailing_metadata() or ()), (TRAILER_KEY, report)))

        return reported
