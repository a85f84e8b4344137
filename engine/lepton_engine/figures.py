"""The engine's statistics: what the scheduler counts, and how fast the last steps were."""

import time
from collections import deque

from lepton_engine.core.plan import StepPlan
from lepton_engine.core.scheduler import Scheduler
from lepton_engine.energy.ledger import EnergyLedger
from lepton_engine.errors import (
    DeadlineUnattainableError,
    QueueFullError,
    QueueTimeoutError,
    TenantConcurrencyError,
    TenantQueueFullError,
    TenantTokenRateError,
)
from lepton_engine.messages import EngineStats

RATE_WINDOW = 10.0


class Figures:
    """Counts steps from now on."""

    def __init__(self) -> None:
        self._rates: deque[tuple[float, int, int]] = deque()
        self._started = time.monotonic()
        self._steps = 0
        self._step_seconds = 0.0

    def launched(self, seconds: float) -> None:
        """A step has been planned and launched, and the one before it settled, in so much time."""
        self._steps += 1
        self._step_seconds += seconds

    def settled(self, now: float, prompt: int, generated: int) -> None:
        """A step has computed so many tokens of prompts and generated so many."""
        self._rates.append((now, prompt, generated))
        self._trim()

    def _trim(self) -> None:
        horizon = time.monotonic() - RATE_WINDOW
        while self._rates and self._rates[0][0] < horizon:
            self._rates.popleft()

    def stats(self, scheduler: Scheduler, energy: EnergyLedger | None) -> EngineStats:
        """Counters and gauges as of now."""
        self._trim()
        pools = scheduler.cache.pools
        total = sum(pool.num_blocks - 1 for pool in pools)
        free = sum(pool.num_free for pool in pools)
        uptime = time.monotonic() - self._started
        window = max(min(uptime, RATE_WINDOW), 1e-3)
        ended = scheduler.finished
        admission = scheduler.admission
        refused = admission.rejected
        return EngineStats(
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting,
            waiting_tokens=scheduler.queued_tokens,
            max_num_seqs=scheduler.max_running,
            num_finished=ended.total() - ended["abort"] - ended["error"],
            num_aborted=ended["abort"],
            num_failed=ended["error"],
            num_rejected=admission.capacity_rejected,
            num_preemptions=scheduler.preemptions,
            prompt_tokens=scheduler.prompt_tokens,
            prefix_query_tokens=scheduler.queried_tokens,
            prefix_hit_tokens=scheduler.cached_tokens,
            computed_tokens=scheduler.computed_tokens,
            generated_tokens=scheduler.generated_tokens,
            kv_blocks_total=total,
            kv_blocks_free=free,
            kv_blocks_referenced=total - free,
            kv_blocks_cached=sum(pool.num_cached for pool in pools),
            block_size=scheduler.cache.layout.block_size,
            num_steps=self._steps,
            step_seconds=self._step_seconds,
            prompt_tokens_per_second=sum(prompt for _, prompt, _ in self._rates) / window,
            generated_tokens_per_second=sum(generated for _, _, generated in self._rates) / window,
            mean_request_seconds=scheduler.mean_request_seconds,
            uptime=uptime,
            drafted_tokens=scheduler.drafted_tokens,
            accepted_tokens=scheduler.accepted_tokens,
            rejected_queue_full=refused[QueueFullError.__name__],
            rejected_queue_timeout=refused[QueueTimeoutError.__name__],
            rejected_deadline=refused[DeadlineUnattainableError.__name__],
            rejected_tenant_concurrency=refused[TenantConcurrencyError.__name__],
            rejected_tenant_queue=refused[TenantQueueFullError.__name__],
            rejected_tenant_rate=refused[TenantTokenRateError.__name__],
            energy_joules=None if energy is None else energy.total,
            attributed_joules=None if energy is None else energy.attributed,
            energy_source="" if energy is None else energy.source,
        )


def prompt_tokens(plan: StepPlan) -> int:
    """How many tokens of prompts a step computes."""
    return sum(max(0, min(e.num_tokens, e.sequence.num_prompt - e.start)) for e in plan.scheduled)
