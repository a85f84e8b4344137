"""connectconformance's reference client against our stack: gRPC in plaintext, by TLS, with client certificates."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from conformance.programs import CONNECT
from conformance.rows import Row
from conformance.running import ROOT, command

CONFIG = Path(__file__).with_name("connect.yaml")
KNOWN_FAILING = Path(__file__).with_name("connect-known-failing.txt")
SKIPPED = Path(__file__).with_name("connect-skipped.txt")
# Runs on connections of its own: a connection on which Core could not parse a `grpc-encoding` fails later calls on it
# that are compressed, as INTERNAL.
ALONE = "gRPC Unexpected Requests/**/unexpected-compression"


def run(programs: Path, timeout: float = 1800.0) -> Row:
    """Runs the suite, which holds the list of known failures to what fails by itself."""
    lots = (("--skip", ALONE), ("--run", ALONE))
    found = [_lot(programs, chosen, timeout) for chosen in lots]
    wrong = [line for _, _, lines in found for line in lines]
    return Row(
        "connectconformance", "plaintext, TLS, mTLS", sum(lot[0] for lot in found), sum(lot[1] for lot in found), wrong
    )


def _lot(programs: Path, chosen: Sequence[str], timeout: float) -> tuple[int, int, list[str]]:
    arguments = [str(programs / "connectconformance"), "--mode", "server", "--conf", str(CONFIG), *chosen]
    arguments += ["--max-servers", "2", "--parallel", "4"]
    for pattern in patterns(SKIPPED):  # Beside a file of patterns the program forgets those of the command line.
        arguments += ["--skip", pattern]
    for pattern in patterns(KNOWN_FAILING):
        if (pattern == ALONE) == ("--run" in chosen):
            arguments += ["--known-failing", pattern]
    try:
        done = subprocess.run(
            [*arguments, "--", *command("connect", programs / CONNECT)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 0, 0, [f"no end after {timeout:g} s"]
    return counts(done.stdout + done.stderr, done.returncode)


def patterns(path: Path) -> list[str]:
    """The patterns of a list, without its comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def counts(said: str, status: int) -> tuple[int, int, list[str]]:
    """Passed, failed as listed, and wrong, from what the suite says at its end."""
    wrong = re.findall(r"^FAILED: (.+?):?$", said, re.MULTILINE)
    total = re.search(r"^(\d+) passed, (\d+) failed$", said, re.MULTILINE)
    if total is None:
        return 0, 0, [f"exit status {status}: {said.strip()[-1000:]}"]
    expected = re.search(r"Another (\d+) failed as expected", said)
    if status != 0 and not wrong:
        wrong = [f"exit status {status}: {said.strip()[-1000:]}"]
    return int(total[1]), int(expected[1]) if expected else 0, wrong
