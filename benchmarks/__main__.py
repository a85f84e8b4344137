"""`make bench`: the benchmarks in turn; options are passed on (`--quick`). The first run installs the peers."""

import subprocess
import sys

BENCHMARKS = (
    "throughput",
    "latency",
    "mixed",
    "prefix",
    "cold_start",
    "streams",
    "service_latency",
    "techniques",
    "speculation",
    "structured",
    "kernels",
    "quality",
    "scheduler",
    "cancel_storm",
    "cancels",
    "kill_engine",
)
"""Those of the engine and the service; `operator` and `autoscale_sim` are run by name."""


def main() -> int:
    """Run them; the number of those that failed."""
    failed = 0
    for name in BENCHMARKS:
        print(f"\npython -m benchmarks.{name}", flush=True)
        failed += (
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False).returncode != 0
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
