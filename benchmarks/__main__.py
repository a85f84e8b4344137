"""`make bench`: every benchmark in turn; options are passed on (`--quick`)."""

import subprocess
import sys

BENCHMARKS = ("throughput", "streams", "kernels", "quality", "scheduler", "cancel_storm")


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
