"""How many threads the CPU's kernels may use."""

import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may use: its affinity, bounded by the CPU quota of its cgroup (v1 or v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota())))


def _quota() -> float:
    """CPUs that the cgroup grants; infinite without a bound."""
    root = Path("/sys/fs/cgroup")
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):
        pass  # Not cgroup v2, or "max".
    try:
        quota = (root / "cpu/cpu.cfs_quota_us").read_text()
        period = (root / "cpu/cpu.cfs_period_us").read_text()
    except OSError:
        return math.inf
    return float(quota) / float(period) if int(quota) > 0 else math.inf
