"""The scheduler alone: microseconds a step, with few and with very many requests in the queue.

No model runs: every sample is one made-up token. A step is one `schedule` and one `settle`. In steady decode all slots
are taken; where a request ends in each step, another is let in; and where KV blocks lack there are slots, but the
prompt of 8,192 tokens at the head of the queue does not fit, and is looked up in every step.
"""

import gc
import sys
import time
from collections.abc import Callable

from benchmarks import common
from lepton_engine.config import SchedulerSettings
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.kv_layout import KVCacheLayout, KVGroup
from lepton_engine.core.plan import StepResult
from lepton_engine.core.request import Request
from lepton_engine.core.scheduler import Scheduler
from lepton_engine.sampling_params import SamplingParams

BATCH, FEW, MANY = 64, 10, 10_000
BLOCK_SIZE, PROMPT, LONG_PROMPT, MAX_TOKENS = 16, 128, 8192, 1 << 20
PARAMS = SamplingParams(max_tokens=MAX_TOKENS)


class Bench:
    """A scheduler with a full batch and `queued` requests behind it."""

    def __init__(self, queued: int, *, lacks_blocks: bool = False, tenants: int = 1) -> None:
        budget = 1 << 16
        # A step adds a token to each sequence: these blocks last for a round, but do not hold the long prompt.
        spare = LONG_PROMPT // BLOCK_SIZE if lacks_blocks else 1 << 18
        blocks = 1 + BATCH * PROMPT // BLOCK_SIZE + spare
        layout = KVCacheLayout(BLOCK_SIZE, (KVGroup(None, (0,), 1),), (blocks,), (blocks - 1) * BLOCK_SIZE)
        settings = SchedulerSettings(max_num_seqs=BATCH * (1 + lacks_blocks), max_num_batched_tokens=budget)
        self.scheduler = Scheduler(settings, KVCacheManager(layout, chunk=budget))
        self.arrivals = 0
        self.tenants = tenants
        for _ in range(BATCH):
            self.submit(PROMPT)
        self.step()
        for i in range(queued):
            self.submit(LONG_PROMPT if i == 0 and lacks_blocks else PROMPT)
        for _ in range(4):
            self.step()

    def submit(self, length: int) -> None:
        """Queue a request with a prompt of its own."""
        self.arrivals += 1
        prompt = [self.arrivals, *range(1, length)]
        tenant = str(self.arrivals % self.tenants)
        self.scheduler.submit(
            Request(str(self.arrivals), prompt, PARAMS, self.arrivals, 0.0, 0, MAX_TOKENS, tenant=tenant)
        )

    def step(self) -> None:
        """One step, its samples made up."""
        plan = self.scheduler.schedule(0.0)
        count = len(plan.samples)
        self.scheduler.settle(plan, StepResult([7] * count, [False] * count, [None] * count))
        self.scheduler.take_events()
        if len(plan.scheduled) != BATCH:
            raise RuntimeError(f"{len(plan.scheduled)} sequences in the step, not {BATCH}")

    def replace_first(self) -> None:
        """The first of the running requests ends and one arrives, then a step."""
        self.scheduler.abort(self.scheduler.running[0].request.key)
        self.submit(PROMPT)
        self.step()


def microseconds(step: Callable[[], object], steps: int) -> float:
    """The mean of some steps in processor time, which neighbours disturb least, without the garbage collector."""
    gc.disable()
    try:
        began = time.process_time()
        for _ in range(steps):
            step()
        return (time.process_time() - began) / steps * 1e6
    finally:
        gc.enable()


WORKS: dict[str, Callable[[int], Callable[[], object]]] = {
    "steady decode": lambda queued: Bench(queued).step,
    "a request ends in each step": lambda queued: Bench(queued).replace_first,
    "the same, of 100 tenants": lambda queued: Bench(queued, tenants=100).replace_first,
    "KV blocks lack": lambda queued: Bench(queued, lacks_blocks=True).step,
}


def main() -> int:
    args = common.parser(__doc__ or "").parse_args()
    steps, rounds = 100, 3 if args.quick else 9
    rows = []
    for name, prepare in WORKS.items():
        taken: dict[int, list[float]] = {FEW: [], MANY: []}
        for _ in range(rounds):
            for queued, values in taken.items():
                values.append(microseconds(prepare(queued), steps))
        ratio = common.median([few / many for few, many in zip(taken[FEW], taken[MANY], strict=True)])
        for queued, values in taken.items():
            rows.append(
                common.Row(
                    f"{name}, {queued:,} queued",
                    common.LEPTON,
                    "none",
                    common.median(values),
                    "us/step",
                    ratio if queued == MANY else None,
                    versions=common.versions("lepton-engine"),
                )
            )
    notes = [
        f"batch {BATCH}; medians of {rounds} rounds of {steps} steps",
        f"the ratio is the time with {FEW} over that with {MANY:,} queued: 1 where what waits costs nothing",
    ]
    common.report("Scheduler alone", rows, args.json, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
