"""16 requests that share a prefix of 512 tokens, 16 of their own and 32 out each.

"fresh": the prefix was never seen and all arrive at once. "again": other requests of the same prefix follow, which it
pays to have kept. llama.cpp stands here three times: as its server does when they arrive at once (nothing is shared),
one request after the other with the prefix kept, and with cells that the caller shares by hand, which nothing in
llama.cpp finds by itself. Otherwise as `benchmarks.throughput`.
"""

import random
import sys
from dataclasses import replace

from benchmarks import common, compare
from benchmarks.lineup import Lineup, add_options
from benchmarks.systems import llama_cpp
from benchmarks.works import Work

REQUESTS, SHARED, OWN, OUT = 16, 512, 16, 32


def prefix_works(vocab_size: int, seed: int, scale: float) -> list[Work]:
    """Fresh, then again; in this order."""
    rng = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(2, vocab_size) for _ in range(max(1, int(count * scale))))

    shared, outputs = tokens(SHARED), (max(2, int(OUT * scale)),) * REQUESTS
    names = (f"{REQUESTS} sharing {SHARED} {when}, {OWN} + {OUT}" for when in ("fresh", "again"))
    return [Work(name, tuple(shared + tokens(OWN) for _ in range(REQUESTS)), outputs) for name in names]


def adapt(lineup: Lineup, shape: str, weights: str) -> None:
    """llama.cpp's other ways with a prefix."""
    for entry in list(lineup.entries):
        if entry.name == llama_cpp.PEER.name:
            for sharing, label in (("kept", "one after the other"), ("by hand", "prefix shared by hand")):
                arguments = {**entry.arguments, "sharing": sharing}
                lineup.entries.append(replace(entry, name=f"{entry.name}, {label}", arguments=arguments))


def main() -> int:
    parser = common.parser(__doc__ or "", plot=True)
    add_options(parser, "bf16", "135M")
    return compare.run("Shared prefix", parser.parse_args(), ["135M"], prefix_works, adapt)


if __name__ == "__main__":
    sys.exit(main())
