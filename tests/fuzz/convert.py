"""Fuzzes what requests go through before the engine, and what their answers go through after it.

    python -m tests.fuzz.convert --minutes 10

Says how many inputs were run, how much code they reached, and what was found; the exit status is 1 when something was.
What is found goes into tests/fuzz/corpus once it is mended.
"""

import argparse
import re
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        edges: branches of the instrumented code that were reached; None without coverage.
        found: inputs that were not taken as they should be, with their tracebacks.
    """

    executions: int
    edges: int | None
    kept: int
    found: list[tuple[bytes, str]]


def fuzz(seconds: int, seed: int, folder: Path) -> Outcome:
    """Fuzzes in a process of its own, which a crash would take along.

    Args:
        folder: keeps the inputs that reach new code, and begins with those that it has.

    Raises:
        RuntimeError: the process crashed, which is a finding too; the message has what it said.
    """
    command = [sys.executable, "-m", "tests.fuzz.run", "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run([*command, "--folder", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    if done.returncode != 0 or count is None:
        raise RuntimeError(f"the fuzzing process ended with {done.returncode}:\n{said[-5000:]}")
    edges = re.findall(r"cov: (\d+)", said)
    found = [(path.read_bytes(), path.with_suffix(".txt").read_text()) for path in (folder / "found").glob("*.bin")]
    return Outcome(
        int(count[1]), int(edges[-1]) if edges else None, sum(1 for _ in (folder / "inputs").iterdir()), found
    )


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="of the mutations (default: another each time)")
    parser.add_argument("--folder", type=Path, help="keep inputs and findings here (default: a temporary folder)")
    args = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if args.seed is None else args.seed
    with tempfile.TemporaryDirectory(prefix="lepton-fuzz-") as temporary:
        outcome = fuzz(round(args.minutes * 60), seed, args.folder or Path(temporary))
    reached = "no coverage: atheris is not installed" if outcome.edges is None else f"{outcome.edges} edges reached"
    print(f"seed {seed}: {outcome.executions} inputs, {reached}, {outcome.kept} kept, {len(outcome.found)} found")
    for data, text in outcome.found:
        print(f"\n{data!r}\n{text}")
    return 1 if outcome.found else 0


if __name__ == "__main__":
    sys.exit(main())
