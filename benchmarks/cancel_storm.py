"""Ten thousand requests, each cancelled: where, what is left, and how the memory fares.

A seeded storm over a tiny random model. The kind that has been cancelled least so far is due: queued, in mid-prefill,
decoding, leading a prefix that others wait for, preempted, or with n > 1; a request that is in that state now, as the
engine's own bookkeeping says, is cancelled and counted. The table shows the counts, then the end state.
"""

import random
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks import common
from benchmarks.shapes import SHAPES, checkpoint
from lepton_engine.build import build_core
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings
from lepton_engine.core.request import Request, SequenceState
from lepton_engine.messages import Abort, EngineSettings, Submit
from lepton_engine.sampling_params import SamplingParams

KINDS = ("queued", "in mid-prefill", "decoding", "leading a shared prefix", "preempted", "n > 1")
CLIENT = "storm"


def state_of(request: Request, followed: set[bytes]) -> str | None:
    """Which of the kinds a live request is now; None when it is none of them."""
    sequence = request.sequences[0]
    if request.num_preemptions and sequence.state is not SequenceState.RUNNING:
        return "preempted"
    if request.params.n > 1:
        return "n > 1"
    if sequence.state is SequenceState.RUNNING:
        if sequence.leads & followed:
            return "leading a shared prefix"
        if sequence.num_computed < sequence.num_prompt:
            return "in mid-prefill"
        return "decoding"
    return "queued"


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--requests", type=int, help="default: 10000, 600 with --quick")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    total = args.requests or (600 if args.quick else 10_000)
    rng = random.Random(args.seed)
    settings = EngineSettings(
        model=str(checkpoint("tiny")),
        model_settings=ModelSettings(device="cpu", num_threads=1),
        cache=CacheSettings(memory=400 << 10, block_size=16),
        scheduler=SchedulerSettings(max_num_seqs=16, max_num_batched_tokens=64, max_prefill_chunk=24),
    )
    core = build_core(settings)
    scheduler = core.scheduler
    vocab = SHAPES["tiny"].vocab_size
    counts: Counter[str] = Counter()
    submitted = 0
    resident: list[tuple[int, float]] = []
    began = time.monotonic()

    def submit(urgent: bool = False) -> None:
        nonlocal submitted
        submitted += 1
        shared = [submitted // 6 % vocab] * 96  # Every six requests share a fresh prefix of more than a step.
        prompt = shared + [rng.randrange(vocab) for _ in range(rng.randint(1, 40))]
        params = SamplingParams(n=3 if rng.random() < 0.16 else 1, max_tokens=48, ignore_eos=True, seed=submitted)
        core.handle(
            CLIENT,
            Submit(
                key=str(submitted),
                prompt_token_ids=prompt,
                params=params,
                seed=submitted,
                max_tokens=48,
                stop_token_ids=[],
                bad_word_ids=[],
                priority=-submitted if urgent else 0,  # More urgent than all before: somebody has to make room.
            ),
        )

    while counts.total() < total:
        while len(scheduler.requests) < 40:
            submit()
        due = min(KINDS, key=lambda kind: counts[kind])
        if due == "preempted":
            submit(urgent=True)
        core.step()
        core.take_replies()
        followed = scheduler.cache.followed()
        ready = [key for key, request in scheduler.requests.items() if state_of(request, followed) == due]
        for key in rng.sample(ready, min(len(ready), rng.randint(1, 4))):
            core.handle(CLIENT, Abort(key=key))
            counts[due] += 1
        problems = core.integrity()
        if problems:
            print("\n".join(problems), file=sys.stderr)
            return 1
        if counts.total() // (total // 20) > len(resident):
            resident.append((counts.total(), resident_mb()))
    for key in list(scheduler.requests):
        core.handle(CLIENT, Abort(key=key))
    core.step()
    stats = core.stats()
    after_first_tenth = [value for count, value in resident if count >= total // 10]
    rows = [common.Row("cancelled " + kind, common.LEPTON, "tiny bfloat16", counts[kind], "requests") for kind in KINDS]
    rows += [
        common.Row(
            "running + waiting at the end", common.LEPTON, "", stats.num_running + stats.num_waiting, "sequences"
        ),
        common.Row("KV blocks not free at the end", common.LEPTON, "", stats.kv_blocks_referenced, "blocks"),
        common.Row("resident after the first tenth", common.LEPTON, "", after_first_tenth[0], "MiB"),
        common.Row("resident at the end", common.LEPTON, "", after_first_tenth[-1], "MiB"),
    ]
    notes = [
        f"{counts.total()} cancels in {time.monotonic() - began:.0f} s, {stats.num_steps} steps, "
        f"{stats.num_preemptions} preemptions; integrity() clean after every step"
    ]
    common.report("Cancel storm", rows, args.json, notes)
    sound = not (stats.num_running or stats.num_waiting or stats.kv_blocks_referenced)
    return 0 if sound and min(counts[kind] for kind in KINDS) * 10 >= total else 1


def resident_mb() -> float:
    """Resident memory of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


if __name__ == "__main__":
    sys.exit(main())
