"""32 requests of mixed lengths, all there from the start: prompts of 16 to 512 tokens, outputs of 16 to 256.

Beside the standard work one whose prompts are long and outputs short, and one the other way round. Prefill and decode
share steps here; how is what systems differ in. Otherwise as `benchmarks.throughput`.
"""

import random
import sys
from collections.abc import Callable

from benchmarks import common, compare
from benchmarks.lineup import add_options
from benchmarks.works import Work, works

WorksOf = Callable[[int, int, float], list[Work]]

KINDS = {"32 reading, 256-512 + 8-32": ((256, 512), (8, 32)), "32 writing, 8-32 + 64-192": ((8, 32), (64, 192))}


def mixed_works(vocab_size: int, seed: int, scale: float) -> list[Work]:
    """The three of them; lengths are the same for every seed, so that rounds can be compared."""
    made = [work for work in works(vocab_size, seed, scale) if "mixed" in work.name]
    tokens, lengths = random.Random(seed), random.Random(1)
    for name, (prompt, output) in KINDS.items():
        sizes = [(lengths.randint(*prompt), lengths.randint(*output)) for _ in range(32)]
        prompts = tuple(tuple(tokens.randrange(2, vocab_size) for _ in range(max(1, int(n * scale)))) for n, _ in sizes)
        made.append(Work(name, prompts, tuple(max(2, int(m * scale)) for _, m in sizes)))
    return made


def main() -> int:
    parser = common.parser(__doc__ or "", plot=True)
    add_options(parser, "bf16,int8", "135M")
    return compare.run("Mixed lengths", parser.parse_args(), ["135M"], mixed_works)


if __name__ == "__main__":
    sys.exit(main())
