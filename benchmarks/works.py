"""The work that throughput benchmarks give every system: prompts as token ids, and how many tokens each is to get."""

import random
from dataclasses import dataclass

SHARED_LEAST = 32
"""Tokens from which a common prefix is worth anything to a system that has to be told of it."""


@dataclass(frozen=True)
class Work:
    """Requests that are all there from the start; end-of-sequence is ignored.

    Attributes:
        prompts: token ids. outputs: tokens to generate for each.
    """

    name: str
    prompts: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]

    @property
    def generated(self) -> int:
        """Tokens generated in all, the unit of throughput."""
        return sum(self.outputs)


def works(vocab_size: int, seed: int, scale: float = 1.0) -> list[Work]:
    """The four standard works with fresh prompts; `scale` shrinks the lengths for smoke tests."""
    rng = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(2, vocab_size) for _ in range(max(1, int(count * scale))))

    def out(count: int) -> int:
        return max(2, int(count * scale))

    shared = tokens(512)
    # Lengths of the mixed work are the same in every run, so that runs can be compared.
    lengths = random.Random(0)
    mixed = [(lengths.randint(16, 512), lengths.randint(16, 256)) for _ in range(32)]
    return [
        Work("1 request, 128+128", (tokens(128),), (out(128),)),
        Work("16 requests, 128+128", tuple(tokens(128) for _ in range(16)), (out(128),) * 16),
        Work("32 mixed, 16-512 + 16-256", tuple(tokens(n) for n, _ in mixed), tuple(out(m) for _, m in mixed)),
        Work("16 sharing 512, 16 + 32", tuple(shared + tokens(16) for _ in range(16)), (out(32),) * 16),
    ]


def common_prefix(prompts: tuple[tuple[int, ...], ...]) -> int:
    """Tokens that all prompts begin with; one at least is left to each."""
    shared = 0
    for column in zip(*prompts, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return min(shared, min(map(len, prompts)) - 1)
