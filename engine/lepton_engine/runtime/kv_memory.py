"""The memory of the KV cache: how much there is, measured, and the tensors in it."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lepton_engine.config import LayerKV
from lepton_engine.core.kv_layout import KVCacheLayout, KVGroup, group_layers
from lepton_engine.kernels.kv_scales import KV_DTYPES

CPU_FRACTION = 0.7
CUDA_FRACTION = 0.9
ALIGNMENT = 64
SCALE_DTYPE = torch.float32
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def kv_groups(layers: list[LayerKV], dtype: torch.dtype) -> tuple[KVGroup, ...]:
    """The groups of layers whose keys and values are kept in dtype, beside the scales that a quantised one needs."""
    return group_layers(layers, dtype.itemsize, SCALE_DTYPE.itemsize if dtype in KV_DTYPES.values() else 0)


def allocate_kv_cache(
    layout: KVCacheLayout, layers: list[LayerKV], dtype: torch.dtype, device: torch.device
) -> list[tuple[torch.Tensor, ...]]:
    """Keys and values of each layer, both [num_blocks, num_kv_heads, block_size, head_dim], zero.

    Of a quantised dtype the scales of keys and of values come behind them, see `KVScales`. On the CPU the pages are not
    touched before they are written, so an unused cache costs no memory.
    """
    caches: list[tuple[torch.Tensor, ...]] = []
    for index, layer in enumerate(layers):
        blocks = layout.num_blocks[layout.group_of_layer(index)]
        shape = (blocks, layer.num_kv_heads, layout.block_size, layer.head_dim)
        cache = [_zeros(shape, dtype, device) for _ in range(2)]
        if dtype in KV_DTYPES.values():
            cache += [_zeros(shape[:-1], SCALE_DTYPE, device) for _ in range(2)]
        caches.append(tuple(cache))
    return caches


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy's zeros are calloc's, which the kernel gives lazily; torch.zeros writes every page.
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    return torch.from_numpy(raw[offset : offset + size]).view(dtype).view(shape)


def memory_left(device: torch.device, activations: int) -> int:
    """Bytes that the KV cache may take beside `activations` bytes: a fraction of what is free now.

    On the CPU, free is the least of the machine's available memory and what the cgroups leave.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(free - (1 - CUDA_FRACTION) * total) - activations
    return int((available_memory() - activations) * CPU_FRACTION)


def available_memory(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that this process could still allocate: of the machine, and of its cgroup (v1 or v2).

    Args:
        cgroup: where the process sees its cgroup. meminfo: the kernel's account of the machine.
    """
    free = _meminfo("MemAvailable", meminfo)
    for limit, usage, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            bound = int((cgroup / limit).read_text())
            used = int((cgroup / usage).read_text())
        except (OSError, ValueError):
            continue  # No such cgroup, or "max": no bound.
        free = min(free, bound - used + _page_cache(cgroup / stat))
    return max(0, free)


def _page_cache(stat: Path) -> int:
    """Bytes of a cgroup's usage that the kernel takes back when memory runs short; 0 where it does not say."""
    try:
        figures = dict(line.split() for line in stat.read_text().splitlines())
        # Version 1 counts the groups below apart, under "total_"; version 2 includes them.
        return int(figures.get("total_inactive_file", figures.get("inactive_file", "0")))
    except (OSError, ValueError):
        return 0


def _meminfo(name: str, meminfo: Path) -> int:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # Not Linux.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure_peak(device: torch.device, work: Callable[[], None]) -> int:
    """Bytes that `work` needs above what is allocated now, at its peak."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # Resets VmHWM, the peak of resident memory; where that is refused the peak since the start is an upper bound.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # Not Linux: nothing is measured, and the fraction left over has to do.
    return 0


def full_cache_bytes(
    groups: tuple[KVGroup, ...], block_size: int, max_model_len: int, max_num_seqs: int, chunk: int
) -> int:
    """Bytes beyond which no sequence could use more."""
    return sum(
        (max_num_seqs * group.blocks_for(max_model_len, block_size, chunk) + 1) * block_size * group.token_bytes
        for group in groups
    )
