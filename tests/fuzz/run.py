"""The fuzzing process, which the command in `convert` starts: runs until its time is over, keeps what it finds.

With atheris the code under test is instrumented and inputs that reach new code are kept and mutated further. Without,
inputs are mutated from the seeds alone.
"""

import argparse
import contextlib
import hashlib
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

INSTRUMENTED = [
    "lepton_service",
    "lepton_engine.sampling_params",
    "lepton_engine.sampling_limits",
    "lepton_engine.text",
]
INSTRUMENTED += ["lepton_engine.structured_outputs", "lepton_engine.async_engine", "lepton_engine.grammar"]

with atheris.instrument_imports(include=INSTRUMENTED) if atheris else contextlib.nullcontext():
    from tests.fuzz.mutate import Mutator
    from tests.fuzz.seeds import corpus, seeds
    from tests.fuzz.target import Target

MAX_INPUT = 16_384


class Finder:
    """Runs inputs, and keeps one of each kind that fails, with its traceback beside it."""

    def __init__(self, folder: Path) -> None:
        self._target = Target()
        self._folder = folder
        self._known: set[str] = set()
        self.executions = 0

    def __call__(self, data: bytes) -> None:
        """Runs one input; nothing is raised."""
        self.executions += 1
        try:
            self._target.run(data)
        except Exception as error:
            cause = error.__cause__ or error
            place = traceback.extract_tb(cause.__traceback__)[-1:]
            kind = f"{type(cause).__name__} {[(frame.filename, frame.lineno) for frame in place]}"
            if kind in self._known:
                return
            self._known.add(kind)
            name = hashlib.sha256(data).hexdigest()[:16]
            (self._folder / f"{name}.bin").write_bytes(data)
            (self._folder / f"{name}.txt").write_text("".join(traceback.format_exception(error)))


def guided(finder: Finder, seconds: int, seed: int, inputs: Path) -> None:
    """Fuzzes by coverage; does not return."""
    for data in (*seeds(), *(path.read_bytes() for path in corpus())):
        (inputs / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def mutate(data: bytes, max_size: int, number: int) -> bytes:
        def scramble(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, max(16, max_size - 1)))

        made = Mutator(scramble, number).mutate(data)
        return made if len(made) <= max_size else scramble(data)[:max_size]

    flags = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={MAX_INPUT}", "-print_final_stats=1"]
    flags += ["-rss_limit_mb=4096", "-timeout=3600", f"-artifact_prefix={inputs.parent}/", str(inputs)]
    atheris.Setup([sys.argv[0], *flags], finder, custom_mutator=mutate)
    atheris.Fuzz()


def unguided(finder: Finder, seconds: int, seed: int) -> None:
    """Fuzzes without knowing what is reached."""
    chance = random.Random(seed)
    pool = [*seeds(), *(path.read_bytes() for path in corpus())]
    end = time.monotonic() + seconds

    def scramble(part: bytes) -> bytes:
        changed = bytearray(part or b"\0")
        for _ in range(chance.choice((1, 2, 8))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)

    while time.monotonic() < end:
        data = chance.choice(pool)
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            data = Mutator(scramble, chance.getrandbits(62)).mutate(data)
        finder(data[:MAX_INPUT])
    print(f"stat::number_of_executed_units: {finder.executions}", file=sys.stderr)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="gets found/ and inputs/")
    args: Any = parser.parse_args()
    found, inputs = args.folder / "found", args.folder / "inputs"
    for folder in (found, inputs):
        folder.mkdir(parents=True, exist_ok=True)
    finder = Finder(found)
    if atheris is None:
        unguided(finder, args.seconds, args.seed)
    else:
        guided(finder, args.seconds, args.seed, inputs)


if __name__ == "__main__":
    main()
