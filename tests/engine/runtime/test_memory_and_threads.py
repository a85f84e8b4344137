"""What a process may still use, by files such as the kernel shows; and the tensors of the KV cache."""

import math
import os
from pathlib import Path

import pytest
import torch

from lepton_engine.config import LayerKV
from lepton_engine.core.kv_layout import KVCacheLayout, group_layers
from lepton_engine.runtime.kv_memory import (
    ALIGNMENT,
    CPU_FRACTION,
    allocate_kv_cache,
    available_memory,
    full_cache_bytes,
    measure_peak,
    memory_left,
)
from lepton_engine.runtime.threads import cpu_quota, usable_cores

GIB = 2**30


def write(folder: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return folder


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """A machine with 8 GiB available."""
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal: {16 * 2**20} kB\nMemFree: 1024 kB\nMemAvailable: {8 * 2**20} kB\n")
    return path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max", "memory.current": GIB, "memory.stat": "inactive_file 0"}, 8 * GIB),
        ({"memory.max": 4 * GIB, "memory.current": GIB, "memory.stat": "anon 5\ninactive_file 4096"}, 3 * GIB + 4096),
        ({"memory.max": 4 * GIB, "memory.current": GIB}, 3 * GIB),
        ({"memory.max": 4 * GIB, "memory.current": GIB, "memory.stat": "not in pairs of words"}, 3 * GIB),
        ({"memory.max": GIB, "memory.current": 2 * GIB, "memory.stat": ""}, 0),
        ({"memory.max": 64 * GIB, "memory.current": GIB, "memory.stat": ""}, 8 * GIB),
        (
            {
                "memory/memory.limit_in_bytes": 2 * GIB,
                "memory/memory.usage_in_bytes": GIB,
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 8192",
            },
            GIB + 8192,
        ),
        (
            {
                "memory/memory.limit_in_bytes": 2**63 - 4096,
                "memory/memory.usage_in_bytes": GIB,
                "memory/memory.stat": "",
            },
            8 * GIB,
        ),
    ],
)
def test_available_memory(tmp_path: Path, meminfo: Path, files: dict[str, object], expected: int) -> None:
    assert available_memory(write(tmp_path / "cgroup", files), meminfo) == expected


def test_without_the_kernels_account_it_is_the_machines_memory(tmp_path: Path) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available_memory(tmp_path, tmp_path / "absent") == physical


def test_here_some_memory_is_left_beside_activations() -> None:
    cpu = torch.device("cpu")
    assert 0 < available_memory() < 2**50
    assert memory_left(cpu, 2**50) < 0
    assert memory_left(cpu, 0) - memory_left(cpu, 2**50) == pytest.approx(CPU_FRACTION * 2**50, rel=0.01)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000"}, math.inf),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, math.inf),
        ({"cpu/cpu.cfs_quota_us": 400000, "cpu/cpu.cfs_period_us": 100000}, 4.0),
        ({"cpu/cpu.cfs_quota_us": 400000}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "nonsense", "cpu/cpu.cfs_period_us": 100000}, math.inf),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, object], expected: float) -> None:
    assert cpu_quota(write(tmp_path, files)) == expected


def test_cores_are_bounded_by_the_quota_rounded_up_and_at_least_one(tmp_path: Path) -> None:
    owned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert usable_cores(write(tmp_path, {"cpu.max": "max 100000"})) == owned
    assert usable_cores(write(tmp_path, {"cpu.max": "1000 100000"})) == 1
    assert usable_cores(write(tmp_path, {"cpu.max": "110000 100000"})) == min(2, owned)
    assert usable_cores(write(tmp_path, {"cpu.max": "100000000 100000"})) == owned


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_caches_tensors(dtype: torch.dtype) -> None:
    layers = [LayerKV(2, 8, None), LayerKV(1, 16, 32), LayerKV(2, 8, None)]
    groups = group_layers(layers, dtype.itemsize)
    layout = KVCacheLayout(4, groups, (5, 3), 16)
    caches = allocate_kv_cache(layout, layers, dtype, torch.device("cpu"))
    assert [tuple(keys.shape) for keys, _ in caches] == [(5, 2, 4, 8), (3, 1, 4, 16), (5, 2, 4, 8)]
    tensors = [tensor for pair in caches for tensor in pair]
    assert len({tensor.data_ptr() for tensor in tensors}) == 6
    for tensor in tensors:
        assert tensor.dtype == dtype
        assert tensor.data_ptr() % ALIGNMENT == 0
        assert not tensor.any()
    assert sum(tensor.numel() * dtype.itemsize for tensor in tensors) == layout.total_bytes


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is measured on Linux")
def test_an_unused_cache_takes_no_memory_and_a_written_one_does() -> None:
    layers = [LayerKV(4, 64, None)]
    layout = KVCacheLayout(16, group_layers(layers, 4), (2048,), 1 << 15)
    half = layout.total_bytes // 2
    cpu = torch.device("cpu")
    made: list[torch.Tensor] = []

    def make() -> None:
        made.extend(allocate_kv_cache(layout, layers, torch.float32, cpu)[0])

    def fill() -> None:
        made[0].fill_(1.0)

    assert measure_peak(cpu, make) < half // 4
    assert measure_peak(cpu, fill) > half * 3 // 4


def test_the_largest_cache_of_use() -> None:
    groups = group_layers([LayerKV(1, 8, None), LayerKV(1, 8, 32)], 4)
    # Full attention: 8 blocks a sequence; the window and a chunk: ceil((32 + 16) / 16) + 1; each group a null block.
    expected = ((3 * 8 + 1) + (3 * 4 + 1)) * 16 * 64
    assert full_cache_bytes(groups, 16, 128, 3, 16) == expected
