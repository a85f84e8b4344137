"""What each technique gains on the CPU: the four works of `throughput` with one of them taken away or added.

Every round runs each variant once on the same fresh prompts; ratios are medians of the rounds' ratios. Above 1: the
engine as it comes is faster than the variant.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks import common
from benchmarks.shapes import SHAPES, checkpoint
from benchmarks.systems import lepton
from benchmarks.systems.process import SystemProcess
from benchmarks.works import works


@dataclass(frozen=True)
class Variant:
    """The engine with other options.

    Attributes:
        options: of `LeptonEngine`. environment: of its process. plan: whether a forward pass is one native call.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    plan: bool = True


VARIANTS = (
    Variant(common.LEPTON),
    Variant("without the native plan", plan=False),
    Variant("without native kernels", environment={"LEPTON_CPU_KERNELS": "0"}),
    Variant("without batching", {"max_num_seqs": 1}),
    Variant("without the prefix cache", {"enable_prefix_caching": False}),
    Variant("batch invariant", {"batch_invariant": True}),
    Variant("KV cache int8", {"kv_cache_dtype": "int8"}),
    Variant("int8", {"quantization": "int8"}),
    Variant("int8-w8a8", {"quantization": "int8-w8a8"}),
    Variant("int8-w8a8+head", {"quantization": "int8-w8a8+head"}),
    Variant("int4", {"quantization": "int4"}),
    Variant("int4+head", {"quantization": "int4+head"}),
)


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="default: 135M, tiny with --quick")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: 5, 1 with --quick")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="variants whose name contains this, and the plain one"
    )
    args = parser.parse_args()
    shape = args.shape or ("tiny" if args.quick else "135M")
    rounds = args.rounds or (1 if args.quick else 5)
    scale, vocab = 0.1 if args.quick else 1.0, SHAPES[shape].vocab_size
    chosen = [variant for variant in VARIANTS if variant.name == common.LEPTON or args.only in variant.name]
    seconds: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        systems = []
        for variant in chosen:
            arguments = {"folder": checkpoint(shape), "threads": args.threads, "options": dict(variant.options)}
            arguments["plan"] = variant.plan
            process = SystemProcess(
                variant.name, lepton.make, arguments, args.threads, environment=dict(variant.environment)
            )
            systems.append(stack.enter_context(process))
        for system in systems:
            for work in works(vocab, seed=0, scale=0.05):
                system.run(work)
        for number in range(1, rounds + 1):
            for work in works(vocab, seed=number, scale=scale):
                for system in systems:
                    taken, _ = system.run(work)
                    seconds.setdefault((work.name, system.name), []).append(taken)
                    print(f"round {number}: {work.name}, {system.name}: {work.generated / taken:.1f} tok/s")
        peaks = {system.name: system.peak_rss_mb() for system in systems}
    rows = []
    for work in works(vocab, seed=1, scale=scale):
        own = seconds[work.name, common.LEPTON]
        for variant in chosen:
            runs = seconds[work.name, variant.name]
            ratio = common.median([theirs / ours for theirs, ours in zip(runs, own, strict=True)])
            rows.append(
                common.Row(
                    work.name,
                    variant.name,
                    f"{shape} bfloat16",
                    work.generated / common.median(runs),
                    "tok/s",
                    None if variant.name == common.LEPTON else ratio,
                    peaks[variant.name],
                    common.versions("torch", "lepton-engine"),
                )
            )
    common.report("Techniques", rows, args.json, [f"{args.threads} threads, medians of {rounds} rounds"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
