"""How many threads the CPU's kernels may use."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use: its affinity, bounded by the CPU quota of its cgroup (v1 or v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota(cgroup))))


def cpu_quota(cgroup: Path = CGROUP) -> float:
    """CPUs that the cgroup seen at this path grants; infinite without a bound."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):
        pass  # Not cgroup v2, or "max".
    try:
        quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf
