"""What the machine can do at most, measured beside the systems: read bandwidth and rates of matrix products.

Bandwidth is that of the fastest of several ways to read memory that fits no cache, and rates are those of torch's
products of 2048x2048x2048, with as many threads as the systems have; for bfloat16 also of float32, which is the faster
where a processor has no products of bfloat16. A machine drifts: benchmarks measure this once a round, in a process of
its own like a system's.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import common
from benchmarks.systems.process import SystemProcess
from benchmarks.works import Work

BUFFER = 512 << 20  # bytes
PRODUCT = 2048
NOTHING = Work("limits", (), ())


class Limits:
    """Runs the measurements; a "work" of it is one measurement of each."""

    def __init__(self, threads: int, repeats: int) -> None:
        import torch
        from torch.nn import functional

        torch.set_num_threads(threads)
        numbers = torch.ones(BUFFER // 8, dtype=torch.int64)
        wide = numbers.view(torch.float32).view(-1, 4096)
        vector = torch.ones(4096)
        a, b = (torch.randn(PRODUCT, PRODUCT).to(torch.bfloat16) for _ in range(2))
        c, d = (torch.randint(-127, 127, (PRODUCT, PRODUCT), dtype=torch.int8) for _ in range(2))
        self._repeats = repeats
        self._reads: list[Callable[[], object]] = [lambda: numbers.sum(), lambda: numbers.max(), lambda: wide @ vector]
        e, f = a.float(), b.float()
        self._bfloat16: list[Callable[[], object]] = [lambda: functional.linear(a, b), lambda: functional.linear(e, f)]
        self._int8: Callable[[], object] = lambda: torch._int_mm(c, d)

    def run(self, work: Work) -> dict[str, float]:
        """See `System.run`; the work is ignored."""
        operations = 2 * PRODUCT**3 / 1e9
        return {
            "read GB/s": BUFFER / 1e9 / min(self._best(read) for read in self._reads),
            "bf16 GFLOP/s": operations / min(self._best(product) for product in self._bfloat16),
            "int8 GOP/s": operations / self._best(self._int8),
        }

    def _best(self, call: Callable[[], object]) -> float:
        times = []
        for _ in range(self._repeats):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return min(times)


def make(threads: int, repeats: int = 3) -> Limits:
    """See `SystemProcess`."""
    return Limits(threads, repeats)


def process(threads: int) -> SystemProcess:
    """A process that measures; `run(NOTHING)` measures once."""
    return SystemProcess("limits", make, {"threads": threads}, threads)


@dataclass(frozen=True)
class Measured:
    """Medians over the rounds, and the range that they came from."""

    rounds: tuple[Mapping[str, float], ...]

    def median(self, name: str) -> float:
        """Of a limit."""
        return common.median([values[name] for values in self.rounds])

    def note(self) -> str:
        """One line for the foot of a table."""
        parts = []
        for name in self.rounds[0]:
            low, high = (pick(values[name] for values in self.rounds) for pick in (min, max))
            label, unit = name.split(" ")
            parts.append(f"{label} {self.median(name):.4g} {unit} ({low:.4g} to {high:.4g})")
        return "machine limits beside it: " + ", ".join(parts)


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with process(args.threads) as measuring:
        rounds = [measuring.run(NOTHING)[1] for _ in range(1 if args.quick else 5)]
    measured = Measured(tuple(rounds))
    versions = common.versions("torch")
    rows = [
        common.Row(label, "machine", f"{args.threads} threads", measured.median(name), unit, versions=versions)
        for name in rounds[0]
        for label, unit in [name.split(" ")]
    ]
    common.report("Machine limits", rows, args.json, [measured.note()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
