"""Who is serving: a board of statuses by service, and those who watch it."""

import asyncio
from collections.abc import Iterable

from grpc_health.v1.health_pb2 import HealthCheckResponse

OVERALL = ""
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

GENERATION = "lepton.v1.GenerationService"
SCORING = "lepton.v1.ScoringService"
TOKENIZATION = "lepton.v1.TokenizationService"
MODEL = "lepton.v1.ModelService"
STATS = "lepton.v1.StatsService"
SERVICES = (GENERATION, SCORING, TOKENIZATION, MODEL, STATS)


class HealthBoard:
    """Statuses by service name. The overall one (`""`) says that the process lives; it is SERVING until the end."""

    def __init__(self, services: Iterable[str] = SERVICES) -> None:
        self._statuses = {OVERALL: SERVING, **dict.fromkeys(services, NOT_SERVING)}
        self._changed = asyncio.Event()

    def status(self, service: str) -> HealthCheckResponse.ServingStatus.ValueType | None:
        """The status of a service; None for one that is unknown."""
        return self._statuses.get(service)

    def statuses(self) -> dict[str, HealthCheckResponse.ServingStatus.ValueType]:
        """All statuses by service name."""
        return dict(self._statuses)

    def set_named(self, status: HealthCheckResponse.ServingStatus.ValueType) -> None:
        """Sets every named service; the overall status stays."""
        self._statuses.update({name: status for name in self._statuses if name != OVERALL})
        self._changed.set()
        self._changed = asyncio.Event()

    def next_change(self) -> asyncio.Event:
        """An event that is set at the next change."""
        return self._changed
