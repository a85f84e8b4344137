"""What the device can do at most, measured beside every figure that is a share of it."""

import statistics
from collections.abc import Callable

import torch

_READ_BYTES = 4 << 30
_GEMM = 8192


def seconds(work: Callable[[], object], repeats: int = 10, warm_up: int = 3) -> float:
    """Median time of a call on the device, by its events."""
    for _ in range(warm_up):
        work()
    times: list[float] = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def read_bandwidth() -> float:
    """Bytes per second of a sum over more than the caches hold, the best of a few ways to read."""
    data = torch.empty(_READ_BYTES // 4, dtype=torch.float32, device="cuda").normal_()
    halves = data.view(torch.bfloat16)
    best = min(
        seconds(lambda: data.sum()),
        seconds(lambda: torch.amax(data)),
        seconds(lambda: torch.amax(halves)),
    )
    copied = torch.empty_like(data)
    copy = seconds(lambda: copied.copy_(data))
    return max(data.nbytes / best, 2 * data.nbytes / copy)


def gemm_rate() -> float:
    """bf16 floating-point operations per second of a large square product on random data."""
    a, b = (torch.randn(_GEMM, _GEMM, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * _GEMM**3 / seconds(lambda: a @ b)
