"""Generated tokens per second on four works, Lepton beside `transformers`.

One request; 16 at once; 32 of mixed lengths; 16 that share a fresh 512-token prefix and arrive together. Random
weights, greedy, end-of-sequence ignored, loading and a warm-up excluded. Every round runs each system once on the
same fresh prompts (A B A B ...); ratios are medians of the rounds' ratios.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import common
from benchmarks.shapes import SHAPES, checkpoint
from benchmarks.systems import hf_transformers, lepton
from benchmarks.systems.process import System, SystemProcess
from benchmarks.works import works

SYSTEMS: dict[str, Callable[..., System]] = {common.LEPTON: lepton.make, "transformers": hf_transformers.make}


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="default: 135M, tiny with --quick")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    parser.add_argument("--only", default="", metavar="TEXT", help="works whose name contains this")
    args = parser.parse_args()
    shape = args.shape or ("tiny" if args.quick else "135M")
    rounds = args.rounds or (1 if args.quick else 5)
    scale = 0.1 if args.quick else 1.0
    vocab = SHAPES[shape].vocab_size
    folder = checkpoint(shape)
    seconds: dict[tuple[str, str], list[float]] = {}
    counters: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        arguments = {"folder": folder, "threads": args.threads}
        systems = [
            stack.enter_context(SystemProcess(name, make, arguments, args.threads)) for name, make in SYSTEMS.items()
        ]
        for system in systems:
            for work in works(vocab, seed=0, scale=0.05):
                system.run(work)
        for round_number in range(1, rounds + 1):
            for work in works(vocab, seed=round_number, scale=scale):
                if args.only not in work.name:
                    continue
                for system in systems:
                    taken, counted = system.run(work)
                    seconds.setdefault((work.name, system.name), []).append(taken)
                    if system.name == common.LEPTON:
                        counters[work.name] = counted
                    print(f"round {round_number}: {work.name}, {system.name}: {work.generated / taken:.1f} tok/s")
        peaks = {system.name: system.peak_rss_mb() for system in systems}
    rows = []
    for work in works(vocab, seed=1, scale=scale):
        for name in SYSTEMS:
            if (work.name, name) not in seconds:
                continue
            runs, own = seconds[work.name, name], seconds[work.name, common.LEPTON]
            ratio = common.median([theirs / ours for theirs, ours in zip(runs, own, strict=True)])
            rows.append(
                common.Row(
                    work.name,
                    name,
                    f"{shape} bfloat16",
                    work.generated / common.median(runs),
                    "tok/s",
                    None if name == common.LEPTON else ratio,
                    peaks[name],
                    common.versions("torch", "transformers", "lepton-engine"),
                )
            )
    notes = [f"{args.threads} threads, medians of {rounds} rounds"]
    for name, counted in counters.items():
        notes.append(f"{name}: " + ", ".join(f"{value:.0f} {what}" for what, value in counted.items()))
    common.report("Throughput", rows, args.json, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
