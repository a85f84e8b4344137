"""Paged attention against its twin: random mixes, groups, windows, splits; what nobody wrote is NaN."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from lepton_engine.kernels import reference
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.triton import attention, tuning
from lepton_engine.kernels.triton.attention import paged_attention
from lepton_engine.kernels.triton.launch import INTERPRETED

Case = Any
MIXES = [
    [(1, 1)],
    [(1, 130), (1, 7), (1, 64)],
    [(5, 5), (1, 33), (17, 40)],
    [(1, 90), (70, 70), (2, 65), (1, 1), (3, 128)],
]


def on(device: torch.device, case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, BatchContext, KVGroupBatch]:
    group = KVGroupBatch(case.group.block_table.to(device), case.group.slot_mapping.to(device))
    batch = replace(
        case.batch,
        positions=case.batch.positions.to(device),
        query_start=case.batch.query_start.to(device),
        seq_lens=case.batch.seq_lens.to(device),
        groups=(group,),
    )
    return case.q.to(device), case.k_cache.to(device), case.v_cache.to(device), batch, group


def check(actual: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = {torch.float32: 2e-6 if INTERPRETED else 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[
        expected.dtype
    ]
    assert actual.is_contiguous()
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("window", [None, 19])
@pytest.mark.parametrize("lens", MIXES)
@pytest.mark.parametrize(("heads", "kv_heads", "dim", "block_size"), [(4, 2, 16, 16), (3, 1, 20, 4), (5, 5, 64, 8)])
def test_against_the_twin(
    lens: list[tuple[int, int]],
    heads: int,
    kv_heads: int,
    dim: int,
    block_size: int,
    window: int | None,
    attention_case: Callable[..., Case],
    device: torch.device,
) -> None:
    case = on(device, attention_case(lens, heads, kv_heads, dim, block_size, torch.float32, window=window))
    expected = reference.paged_attention(*case, 0.3, window)
    check(paged_attention(*case, 0.3, window), expected)
    check(paged_attention(*case, 0.3, window, invariant=True), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [None, 40])
def test_half_precision(
    dtype: torch.dtype, window: int | None, attention_case: Callable[..., Case], device: torch.device
) -> None:
    for lens in MIXES[1:]:
        case = on(device, attention_case(lens, 6, 2, 32, 16, dtype, window=window))
        check(paged_attention(*case, 0.2, window), reference.paged_attention(*case, 0.2, window))


@pytest.mark.parametrize("seed", range(12))
def test_random_batches(seed: int, attention_case: Callable[..., Case], device: torch.device) -> None:
    rng = random.Random(seed)
    lens = []
    for _ in range(rng.randint(1, 6)):
        query = rng.choice([1, 1, 1, rng.randint(1, 50)])
        lens.append((query, query + rng.randint(0, 150)))
    kv_heads = rng.randint(1, 3)
    heads = kv_heads * rng.choice([1, 2, 3, 5, 8, 17])
    dim, block_size = rng.choice([8, 16, 24, 80]), rng.choice([1, 4, 16, 32])
    window = rng.choice([None, rng.randint(1, 200)])
    case = on(device, attention_case(lens, heads, kv_heads, dim, block_size, torch.float32, seed, window=window))
    expected = reference.paged_attention(*case, 0.25, window)
    check(paged_attention(*case, 0.25, window, invariant=rng.random() < 0.5), expected)


@pytest.mark.parametrize("splits", [2, 3, 8])
@pytest.mark.parametrize("window", [None, 70])
def test_split_contexts_of_decodes(
    splits: int, window: int | None, attention_case: Callable[..., Case], device: torch.device
) -> None:
    lens = [(1, 400), (1, 1), (1, 64), (1, 129)]  # some splits of the shorter ones are empty
    case = on(device, attention_case(lens, 4, 2, 16, 16, torch.float32, window=window))
    expected = reference.paged_attention(*case, 0.3, window)
    check(paged_attention(*case, 0.3, window, splits=splits), expected)


@pytest.mark.parametrize("cache_dtype", [torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("window", [None, 30])
def test_quantised_caches(
    cache_dtype: torch.dtype, window: int | None, attention_case: Callable[..., Case], device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(4)
    for lens in MIXES[1:]:
        q, k, _, batch, group = on(device, attention_case(lens, 4, 2, 16, 8, torch.float32, window=window))
        stored = [(torch.randn(k.shape, generator=generator) * 40).to(device).to(cache_dtype) for _ in range(2)]
        scales = KVScales(*(torch.rand(k.shape[:3], generator=generator).to(device) * 0.02 for _ in range(2)))
        keys, values = stored
        expected = reference.paged_attention(q, keys, values, batch, group, 0.3, window, scales)
        for invariant in (False, True):
            out = paged_attention(q, keys, values, batch, group, 0.3, window, scales, invariant=invariant)
            torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_a_soft_cap_bounds_the_scores(attention_case: Callable[..., Case], device: torch.device) -> None:
    q, k_cache, v_cache, batch, group = on(device, attention_case([(1, 9), (4, 6)], 2, 1, 16, 4, torch.float32))
    q = q * 30
    cap, scale = 5.0, 0.3
    out = paged_attention(q, k_cache, v_cache, batch, group, scale, None, softcap=cap)
    at = 0
    for i, (n, total) in enumerate([(1, 9), (4, 6)]):
        at_block = [int(group.block_table[i, p // 4]) for p in range(total)]
        keys = torch.stack([k_cache[b, 0, p % 4] for p, b in enumerate(at_block)])
        values = torch.stack([v_cache[b, 0, p % 4] for p, b in enumerate(at_block)])
        for j in range(n):
            end = total - n + j + 1
            scores = cap * torch.tanh(q[at] @ keys[:end].T * scale / cap)
            check(out[at], (torch.softmax(scores, -1) @ values[:end]).contiguous())
            at += 1


def small_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant tiles and splits so small that short sequences have several."""
    real = tuning.pick

    def pick(kernel: str, device: torch.device, **sizes: int) -> dict[str, int]:
        tiles = real(kernel, device, **sizes)
        return {**tiles, "tile": 16, "split": 32} if kernel == "attention_invariant" else tiles

    monkeypatch.setattr(attention, "pick", pick)


@pytest.mark.parametrize(("window", "dtype"), [(None, torch.float32), (45, torch.bfloat16)])
def test_invariant_results_do_not_depend_on_batch_and_chunks(
    window: int | None,
    dtype: torch.dtype,
    attention_case: Callable[..., Case],
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_splits(monkeypatch)
    q, k, v, batch, group = on(device, attention_case([(70, 70), (1, 110), (9, 10)], 2, 1, 16, 8, dtype))
    whole = paged_attention(q, k, v, batch, group, 0.3, window, invariant=True)
    for first, last in [(0, 1), (0, 70), (37, 38), (40, 65)]:
        alone = BatchContext(
            positions=batch.positions[first:last],
            query_start=torch.tensor([0, last - first], dtype=torch.int32, device=device),
            seq_lens=torch.tensor([last], dtype=torch.int32, device=device),
            query_lens=(last - first,),
            max_seq_len=last,
            groups=(),
        )
        own = KVGroupBatch(group.block_table[:1], group.slot_mapping[first:last])
        part = paged_attention(q[first:last], k, v, alone, own, 0.3, window, invariant=True)
        assert torch.equal(part, whole[first:last])


def test_padding_rows_are_finite_and_nothing_gives_nothing(
    attention_case: Callable[..., Case], device: torch.device
) -> None:
    q, k, v, batch, group = on(device, attention_case([(1, 5), (1, 6)], 2, 2, 16, 4, torch.float32))
    nothing = replace(batch, seq_lens=torch.zeros_like(batch.seq_lens))
    for splits in (1, 4):
        assert not paged_attention(q, k, v, nothing, group, 0.3, None, splits=splits).any()
    empty = replace(batch, query_lens=())
    assert paged_attention(q[:0], k, v, empty, group, 0.3, None).shape == (0, 2, 16)
