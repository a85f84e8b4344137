"""How long the device waits within decode steps, by its own record of its kernels, and which gaps are the longest."""

import argparse
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.core import make_core, run
from benchmarks.gpu.models import random_model
from benchmarks.gpu.rows import Row

PART = "idle"
TARGET = 0.05


def idle_share(intervals: list[tuple[float, float]]) -> float:
    """The part of the time from the first start to the last end in which nothing ran."""
    ordered = sorted(intervals)
    begin, end = ordered[0][0], max(stop for _, stop in ordered)
    busy, reached = 0.0, begin
    for start, stop in ordered:
        busy += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return 1 - busy / (end - begin)


def largest_gaps(kernels: list[tuple[float, float, str]], count: int = 20) -> list[dict[str, Any]]:
    """The gaps that cost the most in all, by the names of the kernels around them; times in microseconds."""
    ordered = sorted(kernels)
    total: Counter[tuple[str, str]] = Counter()
    times: Counter[tuple[str, str]] = Counter()
    for (_, stop, before), (start, _, after) in pairwise(ordered):
        total[before, after] += max(0.0, start - stop)  # type: ignore[assignment]
        times[before, after] += 1
    return [
        {"before": pair[0], "after": pair[1], "gaps": times[pair], "microseconds": round(spent, 1)}
        for pair, spent in total.most_common(count)
    ]


def record(path: Path) -> list[tuple[float, float, str]]:
    """Start, end (microseconds) and name of what ran on the device, from an exported trace."""
    events = json.loads(path.read_text())["traceEvents"]
    kinds = ("kernel", "gpu_memcpy", "gpu_memset")
    return [(e["ts"], e["ts"] + e["dur"], e["name"]) for e in events if e.get("cat") in kinds]


def measure(shape: str, batch: int, device: torch.device, out: Path) -> list[Row]:
    """Profiles the steady decode of a batch."""
    model = random_model(shape, None, device)
    core = make_core(
        model, device, max_model_len=2048, max_num_seqs=max(8, batch), max_num_batched_tokens=4096, kv_memory=6 << 30
    )
    prompts = [list(range(2 + i, 66 + i)) for i in range(batch)]
    run(core, prompts, [16] * batch)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        run(core, prompts, [64] * batch)
    trace = out / f"trace-{shape}-{batch}.json"
    profiler.export_chrome_trace(str(trace))
    kernels = sorted(record(trace))
    trace.unlink()
    steady = kernels[len(kernels) // 4 : -len(kernels) // 8]  # without the prompts and the end
    (out / f"gaps-{shape}-{batch}.json").write_text(json.dumps(largest_gaps(steady), indent=1))
    by_name: Counter[str] = Counter()
    for start, stop, name in steady:
        by_name[name] += stop - start  # type: ignore[assignment]
    spent = [{"kernel": name, "microseconds": round(time, 1)} for name, time in by_name.most_common(20)]
    (out / f"kernels-{shape}-{batch}.json").write_text(json.dumps(spent, indent=1))
    share = idle_share([(start, stop) for start, stop, _ in steady])
    return [Row(PART, f"decode of {batch}, device idle", f"{shape} bf16", share, "", TARGET, at_least=False)]


def main(arguments: argparse.Namespace, device: torch.device) -> list[Row]:
    """See `benchmarks.gpu.__main__`."""
    cases = (("tiny", 1),) if arguments.quick else (("8B", 1), ("8B", 64), ("1B", 1), ("1B", 64))
    rows = []
    for shape, batch in cases:
        rows += measure(shape, batch, device, arguments.out)
        torch.cuda.empty_cache()
    return rows
