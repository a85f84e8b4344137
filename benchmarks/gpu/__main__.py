"""`make gpu`: every part in a process of its own, ten minutes each and half an hour in all at most; JSON in
the output folder.

    python -m benchmarks.gpu                          # all parts
    python -m benchmarks.gpu --part decode            # one, as a session that lends ten minutes at a time needs it
    python -m benchmarks.gpu --quick                  # a smoke test with a tiny model, no figures

Nothing is installed; the engine runs in process. Without a GPU it says so and fails.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.rows import Row, table

PARTS = ("checks", "decode", "mixed", "prefill", "idle", "cold_start")
ON_REQUEST = ("tune",)
LIMIT = 600  # seconds a part
TOTAL = 1800  # seconds of all parts
NO_GPU = 2


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__, formatter_class=_Plain)
    parser.add_argument("--part", choices=(*PARTS, *ON_REQUEST), help="this one alone, in this process")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of the results")
    parser.add_argument("--scratch", type=Path, default=Path("gpu-scratch"), help="folder for checkpoints (16 GB)")
    parser.add_argument("--quick", action="store_true", help="a tiny model, few tokens: a smoke test")
    return parser


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


def run_part(arguments: argparse.Namespace) -> int:
    """Measure one part here and write its rows; the number of figures that miss their target."""
    from benchmarks.gpu.environment import NoGPUError, chip, require_gpu

    try:
        device = require_gpu()
    except NoGPUError as error:
        print(f"make gpu: {error}", file=sys.stderr)
        return NO_GPU
    began = time.perf_counter()
    part = importlib.import_module(f"benchmarks.gpu.{arguments.part}")
    rows: list[Row] = part.main(arguments, device)
    result = {
        "part": arguments.part,
        "quick": arguments.quick,
        "chip": chip(),
        "seconds": round(time.perf_counter() - began, 1),
        "rows": [{**asdict(row), "reached": row.reached} for row in rows],
    }
    (arguments.out / f"{arguments.part}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows), flush=True)
    return 0


def main() -> int:
    """Run the parts; 0 when all ran and no test failed on the chip, missed targets are told in the rows."""
    arguments = options().parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.part is not None:
        return run_part(arguments)
    from benchmarks.gpu.environment import NoGPUError, chip, require_gpu

    try:
        require_gpu()
    except NoGPUError as error:
        print(f"make gpu: {error}", file=sys.stderr)
        return NO_GPU
    print(", ".join(f"{key} {value}" for key, value in chip().items()), flush=True)
    broken = run_parts(arguments)
    print(f"\nresults: {arguments.out}; broken parts: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def run_parts(arguments: argparse.Namespace, total: float = TOTAL) -> list[str]:
    """All parts, each in a process of its own; those that failed or found no time any more."""
    until = time.monotonic() + total
    broken = []
    for part in PARTS:
        left = min(LIMIT, until - time.monotonic())
        if left <= 0:
            print(f"{part}: not run, the {total:g} s of all parts are over: name it by --part", file=sys.stderr)
            broken.append(part)
            continue
        print(f"\n{part}", flush=True)
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", part, "--out", str(arguments.out)]
        command += ["--scratch", str(arguments.scratch), *(["--quick"] if arguments.quick else [])]
        try:
            code = subprocess.run(command, timeout=left, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
            print(f"{part}: not done after {left:.0f} s", file=sys.stderr)
        if code or _tests_failed(arguments.out / f"{part}.json"):
            broken.append(part)
    return broken


def _tests_failed(path: Path) -> bool:
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return any(row["work"] == "tests failed" and row["value"] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
