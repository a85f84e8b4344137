"""One tenant floods, another one asks now and then: the engine alone, by a clock of its own processor time.

As `benchmarks.tenants`, without the service: the engine's loop runs in this process on one thread, and time is the
processor time that its steps take, so that neighbours on the machine do not disturb it. Requests come between steps,
when they are due by that clock.
"""

import gc
import random
import sys
import time

from benchmarks import common
from benchmarks.tenants import FLOODS, Flood, at, prompt
from lepton_engine import embedded
from lepton_engine.build import build_core
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings
from lepton_engine.core.events import NewTokens
from lepton_engine.messages import Abort, EngineSettings, Submit
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.step import EngineCore

CLIENT = "bench"


class Run:
    """An engine under load, and its clock in seconds."""

    def __init__(self, core: EngineCore, seed: int) -> None:
        self.core = core
        self.now = 0.0
        self.random = random.Random(seed)
        self.arrived: dict[str, float] = {}
        self.taken: list[float] = []
        self.number = 0
        self.seed = seed

    def submit(self, tenant: str, length: int, output: int, at: float) -> str:
        """A request comes."""
        self.number += 1
        key = f"{self.seed}/{tenant}/{self.number}"
        params = SamplingParams(max_tokens=output, ignore_eos=True, temperature=0)
        self.core.handle(
            CLIENT,
            Submit(
                key=key,
                prompt_token_ids=prompt(self.random, length),
                params=params,
                seed=1,
                max_tokens=output,
                stop_token_ids=[],
                bad_word_ids=[],
                tenant=tenant,
            ),
        )
        self.arrived[key] = at
        return key

    def step(self) -> None:
        """One step; the clock moves by what it took."""
        began = time.process_time()
        self.core.step()
        self.now += time.process_time() - began
        for reply in self.core.take_replies().get(CLIENT, ()):
            if isinstance(reply, NewTokens) and reply.token_ids and reply.key in self.arrived:
                arrived = self.arrived.pop(reply.key)
                if "/quiet/" in reply.key:
                    self.taken.append(self.now - arrived)


def times(core: EngineCore, seconds: float, seed: int, rate: float, flood: Flood | None, tenant: str) -> list[float]:
    """The quiet tenant's times to first token."""
    run = Run(core, seed)
    due = 0.0
    arrivals = random.Random(seed)
    flooding: set[str] = set()
    while run.now < seconds:
        while due <= run.now:
            run.submit("quiet", 256, 16, due)
            due += arrivals.expovariate(rate)
        flooding = {key for key in flooding if key in core.scheduler}
        while flood is not None and len(flooding) < flood.in_flight:
            key = run.submit(tenant, flood.prompt, flood.output, run.now)
            del run.arrived[key]
            flooding.add(key)
        if core.scheduler.has_work:
            run.step()
        else:
            run.now = due
    # Who has no token yet has waited for so long at least.
    run.taken += [run.now - arrived for key, arrived in run.arrived.items() if "/quiet/" in key]
    for key in list(core.scheduler.requests):
        core.handle(CLIENT, Abort(key=key))
    core.step()
    core.take_replies()
    if core.integrity() or core.scheduler.has_work:
        raise RuntimeError("the engine is not empty and sound at the end")
    return run.taken


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="of each round; default: 10, 2 with --quick")
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    parser.add_argument("--rate", type=float, default=8.0, help="requests a second of the quiet tenant")
    parser.add_argument("--no-control", action="store_true", help="leave out the flood in the tenant's own name")
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--max-num-batched-tokens", type=int, default=512)
    args = parser.parse_args()
    seconds, rounds = args.seconds or (2.0 if args.quick else 10.0), args.rounds or (1 if args.quick else 5)
    settings = EngineSettings(
        model=str(embedded.path()),
        model_settings=ModelSettings(device="cpu", num_threads=1),
        cache=CacheSettings(),
        scheduler=SchedulerSettings(args.max_num_seqs, args.max_num_batched_tokens),
    )
    core = build_core(settings)
    times(core, 0.5, -1, args.rate, None, "")  # Warm.
    gc.collect()
    gc.freeze()  # As the engine's process does: a collection would look at all that torch has loaded.
    quiet: list[float] = []
    beside: dict[tuple[str, bool], list[float]] = {}
    for number in range(rounds):
        quiet += times(core, seconds, number, args.rate, None, "")
        for name, flood in FLOODS.items():
            for tenant in ("flood",) if args.no_control else ("flood", "quiet"):
                taken = times(core, seconds, number, args.rate, flood, tenant)
                beside.setdefault((name, tenant == "flood"), []).extend(taken)
    rows = []
    for quantile in (0.5, 0.99):
        alone = at(quiet, quantile)
        rows.append(_row(f"p{quantile * 100:g}, alone", alone, None))
        for (name, apart), values in beside.items():
            whose = "of another tenant" if apart else "in its own name (control)"
            rows.append(_row(f"p{quantile * 100:g}, flood of {name} {whose}", at(values, quantile), alone))
    worst = max(at(values, 0.99) / at(quiet, 0.99) for (_, apart), values in beside.items() if apart)
    notes = [
        f"quiet tenant: {args.rate:g} requests/s of 256 + 16 tokens, {len(quiet)} of them alone; flood: 64 in flight",
        f"max_num_seqs {args.max_num_seqs}, {args.max_num_batched_tokens} tokens a step, one thread; processor time",
        f"worst p99 beside a flood of another tenant: {worst:.2f} times that alone",
    ]
    common.report("Time to first token of a quiet tenant, engine alone", rows, args.json, notes)
    return 0


def _row(work: str, seconds: float, alone: float | None) -> common.Row:
    ratio = None if alone is None else alone / seconds
    versions = common.versions("lepton-engine")
    return common.Row(work, common.LEPTON, "embedded bfloat16", seconds * 1000, "ms", ratio, versions=versions)


if __name__ == "__main__":
    sys.exit(main())
