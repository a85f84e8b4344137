"""Paged attention of our own against float32 arithmetic, at every instruction set."""

import dataclasses
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from lepton_engine.kernels import reference
from lepton_engine.kernels.cpu import NativeKernels
from lepton_engine.kernels.invariance import batch_invariance

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Largest error, in units of the largest output: float32 by its own arithmetic; the others by the rounding of the
# output (half a unit in the last place) and of the weights before they meet the values.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def expected(case: Any, scale: float, window: int | None) -> torch.Tensor:
    """The definition, a query at a time, in float32."""
    q, (kv_heads, size) = case.q.float(), case.k_cache.shape[1:3]
    out = torch.empty(q.shape)
    group = q.shape[1] // kv_heads
    for i, length in enumerate(case.batch.query_lens):
        start, seq_len = int(case.batch.query_start[i]), int(case.batch.seq_lens[i])
        first = 0 if window is None else max(0, seq_len - length - window + 1)
        at = torch.arange(first, seq_len)
        block = case.group.block_table[i][at // size].long()
        keys, values = (
            c[block, :, at % size].float().repeat_interleave(group, 1) for c in (case.k_cache, case.v_cache)
        )
        for j in range(length):
            position = seq_len - length + j
            seen = at <= position
            if window is not None:
                seen &= at > position - window
            scores = torch.einsum("hd,khd->hk", q[start + j], keys[seen]) * scale
            out[start + j] = torch.einsum("hk,khd->hd", scores.softmax(-1), values[seen])
    return out


def check(kernels: NativeKernels, case: Any, scale: float, window: int | None, slack: float = 1.0) -> None:
    assert kernels.takes_attention(case.q, case.k_cache, case.v_cache)
    out = kernels.paged_attention(case.q, case.k_cache, case.v_cache, case.batch, case.group, scale, window)
    want = expected(case, scale, window)
    assert out.shape == case.q.shape
    assert out.is_contiguous()
    assert (out.float() - want).abs().max() <= slack * TOLERANCE[case.q.dtype] * want.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [32, 40, 64, 80, 96, 128, 256])
def test_head_sizes(
    kernels: NativeKernels, attention_case: Callable[..., Any], dtype: torch.dtype, head_dim: int
) -> None:
    lens = [(1, 1), (1, 70), (5, 5), (33, 40), (1, 17)]
    case = attention_case(lens, 6, 2, head_dim, 16, dtype)
    check(kernels, case, head_dim**-0.5, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads"), [(1, 1), (4, 4), (6, 3), (9, 3), (8, 2), (10, 2), (8, 1), (14, 1), (71, 1)]
)
def test_groups(
    kernels: NativeKernels, attention_case: Callable[..., Any], dtype: torch.dtype, heads: int, kv_heads: int
) -> None:
    case = attention_case([(1, 50), (1, 600), (20, 30), (2, 300)], heads, kv_heads, 64, 16, dtype)
    check(kernels, case, 0.125, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", [1, 8, 16, 32])
@pytest.mark.parametrize("window", [None, 1, 7, 64, 300])
def test_blocks_and_windows(
    kernels: NativeKernels, attention_case: Callable[..., Any], dtype: torch.dtype, block_size: int, window: int | None
) -> None:
    lens = [(1, 600), (1, 3), (130, 200), (64, 64), (3, 513)]
    case = attention_case(lens, 6, 2, 32, block_size, dtype, window=window)
    check(kernels, case, 0.2, window)


@pytest.mark.parametrize("seed", range(12))
def test_random_batches(kernels: NativeKernels, attention_case: Callable[..., Any], seed: int) -> None:
    rng = random.Random(seed)
    lens = []
    for _ in range(rng.randint(1, 6)):
        seq = rng.randint(1, 600)
        lens.append((1 if rng.random() < 0.5 else rng.randint(1, min(seq, 100)), seq))
    kv_heads = rng.choice([1, 2, 3])
    heads = kv_heads * rng.choice([1, 2, 3, 4, 7, 13])
    window = rng.choice([None, None, rng.randint(1, 400)])
    head_dim, block_size = rng.choice([2, 16, 34, 48, 72, 112]), rng.choice([1, 4, 16, 20])
    case = attention_case(lens, heads, kv_heads, head_dim, block_size, rng.choice(DTYPES), seed, window)
    check(kernels, case, head_dim**-0.5, window)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores_do_not_overflow(
    kernels: NativeKernels, attention_case: Callable[..., Any], dtype: torch.dtype
) -> None:
    case = attention_case([(1, 100), (20, 100)], 4, 2, 64, 16, dtype)
    check(kernels, case, 50.0, None, slack=30)  # scores in the thousands, and their rounding with them


def test_agrees_with_the_twin(kernels: NativeKernels, attention_case: Callable[..., Any]) -> None:
    case = attention_case([(1, 100), (20, 100), (7, 7)], 9, 3, 64, 16, torch.float32)
    arguments = (case.q, case.k_cache, case.v_cache, case.batch, case.group, 0.125, None)
    torch.testing.assert_close(kernels.paged_attention(*arguments), reference.paged_attention(*arguments))


def test_same_bits_whatever_the_threads_and_the_batch(
    kernels: NativeKernels, attention_case: Callable[..., Any]
) -> None:
    case = attention_case([(1, 600), (1, 300)], 6, 2, 64, 16, torch.float32)
    results = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        results.append(kernels.paged_attention(case.q, case.k_cache, case.v_cache, case.batch, case.group, 0.125, None))
    torch.set_num_threads(1)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    alone = attention_case([(1, 600)], 6, 2, 64, 16, torch.float32)
    group = type(case.group)(case.group.block_table[:1], case.group.slot_mapping[:1])
    single = kernels.paged_attention(case.q[:1], case.k_cache, case.v_cache, alone.batch, group, 0.125, None)
    assert torch.equal(single, results[0][:1])


def test_calls_from_several_threads(kernels: NativeKernels, attention_case: Callable[..., Any]) -> None:
    cases = [attention_case([(1, 600), (30, 90)], 6, 2, 64, 16, torch.float32, seed) for seed in range(4)]

    def attend(case: Any) -> torch.Tensor:
        torch.set_num_threads(2)
        return kernels.paged_attention(case.q, case.k_cache, case.v_cache, case.batch, case.group, 0.125, None)

    alone = [attend(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(attend, cases * 5))
    for i, out in enumerate(together):
        assert torch.equal(out, alone[i % 4])


def test_nan_stays_nan(kernels: NativeKernels, attention_case: Callable[..., Any]) -> None:
    case = attention_case([(1, 20), (1, 20)], 4, 2, 64, 16, torch.float32)
    case.q[0, 0, 0] = float("nan")
    out = kernels.paged_attention(case.q, case.k_cache, case.v_cache, case.batch, case.group, 0.125, None)
    assert out[0, 0].isnan().all()
    assert out[1].isfinite().all()


def test_refuses_what_it_can_not_read(kernels: NativeKernels, attention_case: Callable[..., Any]) -> None:
    case = attention_case([(1, 20)], 4, 2, 64, 16, torch.float32)
    assert not kernels.takes_attention(case.q, case.k_cache[..., :32].contiguous(), case.v_cache)
    assert not kernels.takes_attention(case.q.double(), case.k_cache, case.v_cache)
    assert not kernels.takes_attention(case.q.bfloat16(), case.k_cache, case.v_cache)
    assert not kernels.takes_attention(case.q.transpose(1, 2), case.k_cache, case.v_cache)
    assert not kernels.takes_attention(case.q, case.k_cache.transpose(1, 2), case.v_cache)
    assert not kernels.takes_attention(case.q[..., :63], case.k_cache[..., :63], case.v_cache[..., :63])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 1, 7, 70])
@pytest.mark.parametrize("seed", range(4))
def test_same_bits_however_a_sequence_is_cut(
    kernels: NativeKernels, attention_case: Callable[..., Any], dtype: torch.dtype, window: int | None, seed: int
) -> None:
    rng = random.Random(seed)
    group = rng.choice((1, 3, 4, 15))
    length = rng.randint(20, 400)
    whole = attention_case([(length, length)], 2 * group, 2, rng.choice((16, 24, 64)), 16, dtype, seed)
    table = whole.group.block_table

    def attend(begin: int, end: int) -> torch.Tensor:
        """Queries [begin, end) as a chunk, beside a stranger's decode."""
        batch = dataclasses.replace(
            whole.batch,
            query_start=torch.tensor([0, 1, 1 + end - begin], dtype=torch.int32),
            seq_lens=torch.tensor([1, end], dtype=torch.int32),
            query_lens=(1, end - begin),
        )
        # Blocks that the window has left behind are nobody's.
        first = 0 if window is None else max(0, begin - window + 1) // 16
        own = table.clone()
        own[0, :first] = 0
        tables = torch.cat((table[:, -1:].expand(1, table.shape[1]), own)).contiguous()
        q = torch.cat((whole.q[:1], whole.q[begin:end]))
        group_batch = dataclasses.replace(whole.group, block_table=tables)
        return kernels.paged_attention(q, whole.k_cache, whole.v_cache, batch, group_batch, 0.2, window)[1:]

    with batch_invariance(True):
        together = attend(0, length)
        for size in (1, rng.randint(2, 30), rng.randint(30, 100)):
            for begin in range(0, length, size):
                end = min(length, begin + size)
                assert torch.equal(attend(begin, end), together[begin:end])
    want = expected(whole, 0.2, window)
    assert (together.float() - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()
