"""The reference kernels against plain formulas."""

import random

import pytest
import torch

from lepton_engine.kernels import reference
from lepton_engine.layers.batch import BatchContext, KVGroupBatch


def naive(
    q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], lens: list[int], window: int | None
) -> torch.Tensor:
    """One query at a time, in float64; keys[i]: [L, Hk, D] of sequence i."""
    rows, at = [], 0
    for k, v, n in zip(keys, values, lens, strict=True):
        for j in range(n):
            end = k.shape[0] - n + j + 1
            begin = 0 if window is None else max(0, end - window)
            group = q.shape[1] // k.shape[1]
            for h in range(q.shape[1]):
                scores = k[begin:end, h // group].double() @ q[at, h].double() * 0.3
                rows.append(torch.softmax(scores, 0) @ v[begin:end, h // group].double())
            at += 1
    return torch.stack(rows).view(q.shape)


@pytest.mark.parametrize("window", [None, 1, 5, 16, 40, 1000])
@pytest.mark.parametrize(
    ("lens", "totals"),
    [([1, 1, 1], [1, 33, 64]), ([7, 1, 40, 3, 1], [7, 20, 61, 50, 1]), ([17], [17]), ([1], [90]), ([5, 6], [80, 6])],
)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_paged_attention(window: int | None, lens: list[int], totals: list[int], heads: int, kv_heads: int) -> None:
    block_size = 8
    generator = torch.Generator().manual_seed(heads)
    shuffle = random.Random(3)
    dim, num_blocks = 16, 64
    keys = [torch.randn(n, kv_heads, dim, generator=generator) for n in totals]
    values = [torch.randn(n, kv_heads, dim, generator=generator) for n in totals]
    q = torch.randn(sum(lens), heads, dim, generator=generator)
    # Whatever is not written stays NaN: reading it would show.
    k_cache, v_cache = torch.full((2, num_blocks, kv_heads, block_size, dim), float("nan"))
    free = list(range(1, num_blocks))
    shuffle.shuffle(free)
    table = torch.zeros(len(lens), max(-(-n // block_size) for n in totals) + 1, dtype=torch.int32)
    positions: list[int] = []
    for i, (n, total) in enumerate(zip(lens, totals, strict=True)):
        first_needed = 0 if window is None else max(0, total - n - window + 1) // block_size
        for b in range(-(-total // block_size)):
            if b < first_needed:
                continue  # the window has left it behind
            table[i, b] = free.pop()
            span = range(b * block_size, min(total, (b + 1) * block_size))
            slots = torch.tensor([int(table[i, b]) * block_size + p % block_size for p in span])
            reference.store_kv(
                keys[i][span.start : span.stop], values[i][span.start : span.stop], k_cache, v_cache, slots
            )
        positions += range(total - n, total)
    batch = BatchContext(
        positions=torch.tensor(positions),
        query_start=torch.tensor([0, *torch.tensor(lens).cumsum(0).tolist()], dtype=torch.int32),
        seq_lens=torch.tensor(totals, dtype=torch.int32),
        query_lens=tuple(lens),
        max_seq_len=max(totals),
        groups=(KVGroupBatch(table, torch.empty(0, dtype=torch.int64)),),
    )
    out = reference.paged_attention(q, k_cache, v_cache, batch, batch.groups[0], 0.3, window)
    assert out.is_contiguous()
    torch.testing.assert_close(out.double(), naive(q, keys, values, lens, window), atol=2e-6, rtol=1e-5)


def test_rotary_turns_pairs_by_their_angle() -> None:
    q, k = torch.randn(5, 2, 12), torch.randn(5, 1, 12)
    before_q, before_k = q.clone(), k.clone()
    angles = torch.rand(9, 4)
    positions = torch.tensor([0, 3, 8, 1, 1])
    reference.apply_rotary(q, k, positions, torch.cat([angles.cos(), angles.sin()], -1))
    for after, before in ((q, before_q), (k, before_k)):
        pairs = torch.complex(before[..., :4], before[..., 4:8]) * torch.polar(
            torch.ones(5, 1, 4), angles[positions].unsqueeze(1)
        )
        torch.testing.assert_close(after[..., :4], pairs.real)
        torch.testing.assert_close(after[..., 4:8], pairs.imag)
        assert torch.equal(after[..., 8:], before[..., 8:])


def test_norms() -> None:
    x, residual, weight = torch.randn(3, 8), torch.randn(3, 8), torch.randn(8)
    expected = torch.nn.functional.rms_norm(x + residual, (8,), weight, 1e-5)
    normed, total = reference.add_rms_norm(x, residual, weight, 1e-5)
    torch.testing.assert_close(normed, expected)
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(reference.rms_norm(x + residual, weight, 1e-5), expected)


def test_silu_mul() -> None:
    gate_up = torch.randn(4, 10)
    expected = gate_up[:, :5] * gate_up[:, :5].sigmoid() * gate_up[:, 5:]
    torch.testing.assert_close(reference.silu_mul(gate_up), expected)
