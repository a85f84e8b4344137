"""Generated tokens per second on four works, Lepton beside its peers.

One request; 16 at once; 32 of mixed lengths; 16 that share a fresh 512-token prefix and arrive together. Random
weights, greedy, end-of-sequence ignored, loading and a warm-up excluded. Every round runs each system once on the
same fresh prompts (A B A B ...); ratios are medians of the rounds' ratios. `--plain` adds `transformers` one request
at a time, with its KV cache and without ("plain inference"); they do one request of a work only: the rate is the same.
"""

import sys

from benchmarks import common, compare
from benchmarks.lineup import TRANSFORMERS, Entry, Lineup, add_options
from benchmarks.shapes import checkpoint
from benchmarks.systems import hf_transformers
from benchmarks.works import Work, works


def main() -> int:
    parser = common.parser(__doc__ or "", plot=True)
    add_options(parser, "bf16", "135M")
    parser.add_argument("--plain", action="store_true", help="transformers one at a time, with and without KV cache")
    parser.add_argument("--only", default="", metavar="TEXT", help="works whose name contains this")
    args = parser.parse_args()

    def adapt(lineup: Lineup, shape: str, weights: str) -> None:
        if args.plain and weights == "bf16":
            for name, cache in (("one at a time", True), ("one at a time, no KV cache", False)):
                options = {"folder": checkpoint(shape), "threads": args.threads, "cache": cache, "at_once": False}
                entry = Entry(f"{TRANSFORMERS}, {name}", weights, hf_transformers.make, options, first=1)
                lineup.entries.append(entry)

    def chosen(vocab_size: int, seed: int, scale: float) -> list[Work]:
        return [work for work in works(vocab_size, seed, scale) if args.only in work.name]

    return compare.run("Throughput", args, ["135M"], chosen, adapt)


if __name__ == "__main__":
    sys.exit(main())
