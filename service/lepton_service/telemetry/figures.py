"""The engine's figures as metrics: fresh when they are collected, counters that go on over the engine's restarts."""

import asyncio
import threading
import time
from collections.abc import Mapping

from lepton_engine.errors import LeptonError
from lepton_engine.messages import EngineStats
from lepton_service.errors import ServiceError
from lepton_service.state import Phase, ServerState

FRESH_SECONDS = 0.5
LONGEST_SECONDS = 5.0

Attributes = tuple[tuple[str, str], ...]
Figures = dict[str, dict[Attributes, float]]


def of_state(state: ServerState) -> Figures:
    """What the server itself knows."""
    return {
        "lepton.server.ready": {(): float(state.phase is Phase.READY and not state.draining)},
        "lepton.server.draining": {(): float(state.draining)},
        "lepton.engine.restarts": {(): float(state.restarts)},
    }


def of_engine(stats: EngineStats) -> Figures:
    """What the engine tells; figures that it does not measure are left out."""
    total = stats.kv_blocks_total
    figures: dict[str, Mapping[Attributes, float | None]] = {
        "lepton.engine.running": {(): stats.num_running},
        "lepton.engine.waiting": {(): stats.num_waiting},
        "lepton.engine.waiting_tokens": {(): stats.waiting_tokens},
        "lepton.engine.max_running": {(): stats.max_num_seqs},
        "lepton.kv_cache.blocks": _by("lepton.state", free=stats.kv_blocks_free, referenced=stats.kv_blocks_referenced),
        "lepton.kv_cache.cached_blocks": {(): stats.kv_blocks_cached},
        "lepton.kv_cache.usage": {(): stats.kv_blocks_referenced / total if total else 0.0},
        "lepton.engine.token_rate": _by(
            "gen_ai.token.type", input=stats.prompt_tokens_per_second, output=stats.generated_tokens_per_second
        ),
        "lepton.engine.tokens": _by("gen_ai.token.type", input=stats.prompt_tokens, output=stats.generated_tokens),
        "lepton.engine.computed_tokens": {(): stats.computed_tokens},
        "lepton.prefix_cache.queried_tokens": {(): stats.prefix_query_tokens},
        "lepton.prefix_cache.hit_tokens": {(): stats.prefix_hit_tokens},
        "lepton.engine.ended_requests": _by(
            "lepton.outcome", finished=stats.num_finished, aborted=stats.num_aborted, failed=stats.num_failed
        ),
        "lepton.engine.rejected": _by(
            "lepton.reason",
            queue_full=stats.rejected_queue_full,
            queue_timeout=stats.rejected_queue_timeout,
            deadline_unattainable=stats.rejected_deadline,
            tenant_concurrency=stats.rejected_tenant_concurrency,
            tenant_queue_full=stats.rejected_tenant_queue,
            tenant_token_rate=stats.rejected_tenant_rate,
        ),
        "lepton.engine.preemptions": {(): stats.num_preemptions},
        "lepton.engine.steps": {(): stats.num_steps},
        "lepton.engine.step.time": {(): stats.step_seconds},
        "lepton.speculation.drafted_tokens": {(): stats.drafted_tokens},
        "lepton.speculation.accepted_tokens": {(): stats.accepted_tokens},
        "lepton.energy": {(("lepton.source", stats.energy_source),): stats.energy_joules},
        "lepton.energy.requests": {(("lepton.source", stats.energy_source),): stats.attributed_joules},
    }
    found = {
        name: {key: float(value) for key, value in series.items() if value is not None}
        for name, series in figures.items()
    }
    return {name: series for name, series in found.items() if series}


def _by(attribute: str, **values: float) -> dict[Attributes, float | None]:
    return {((attribute, name),): value for name, value in values.items()}


class Carried:
    """Counters that go on where the engine before has left off.

    Args:
        counters: names of the figures that are such.
    """

    def __init__(self, counters: frozenset[str]) -> None:
        self._counters = counters
        self._base: Figures = {}
        self._last: Figures = {}
        self._uptime = 0.0

    def take(self, figures: Figures, uptime: float) -> Figures:
        """Figures of an engine that has run for so many seconds, its counters raised by those of the ones before."""
        if uptime < self._uptime:
            self._base = {name: dict(series) for name, series in self._last.items()}
        self._uptime = uptime
        told = {name: dict(series) for name, series in figures.items()}
        for name in self._counters & told.keys():
            for key, value in self._base.get(name, {}).items():
                told[name][key] = told[name].get(key, 0.0) + value
        self._last.update({name: told[name] for name in self._counters & told.keys()})
        return told

    def rest(self) -> Figures:
        """What is told while there is no engine: the counters alone."""
        return self._last


class LiveFigures:
    """Asks for the figures in the event loop, on behalf of the threads that collect metrics. Made in that loop."""

    def __init__(self, state: ServerState, counters: frozenset[str]) -> None:
        self._state = state
        self._carried = Carried(counters)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._taken = float("-inf")
        self._figures: Figures = of_state(state)

    def get(self) -> Figures:
        """The figures, half a second old at most where the engine answers."""
        if threading.get_ident() == self._thread:  # It cannot wait for itself.
            return self._figures
        with self._lock:
            if time.monotonic() - self._taken > FRESH_SECONDS and self._loop.is_running():
                asking = asyncio.run_coroutine_threadsafe(self.refresh(), self._loop)
                try:
                    asking.result(LONGEST_SECONDS)
                except TimeoutError:
                    asking.cancel()
                self._taken = time.monotonic()
            return self._figures

    async def refresh(self) -> None:
        """Asks the engine; one that does not answer leaves its counters as they were and its gauges absent."""
        try:
            stats = await self._state.engine_stats()
        except (ServiceError, LeptonError):
            told = self._carried.rest()
        else:
            told = self._carried.take(of_engine(stats), stats.uptime)
        self._figures = {**told, **of_state(self._state)}
