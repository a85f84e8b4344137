"""A quantised KV cache: what is stored, and attention over it, against the same values in float32."""

import pytest
import torch

from lepton_engine.kernels import reference
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.kv_scales import KV_DTYPES, KVScales

BLOCKS, HEADS, SIZE, DIM = 12, 2, 4, 16


def caches(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, KVScales]:
    """Whatever is not written is NaN by its scale."""
    shape = (BLOCKS, HEADS, SIZE, DIM)
    scales = torch.full((2, *shape[:-1]), float("nan"))
    return torch.ones(shape).to(dtype), torch.ones(shape).to(dtype), KVScales(scales[0], scales[1])


@pytest.mark.parametrize(("name", "bound"), [("int8", 0.5 / 127), ("fp8", 2**-4)])
def test_stored_values_are_within_a_step(name: str, bound: float) -> None:
    k_cache, v_cache, scales = caches(KV_DTYPES[name])
    kv = torch.randn(5, 2 * HEADS, DIM) * torch.tensor([1e-6, 1.0, 3e4, 0.0, 2.0])[:, None, None]
    k, v = kv[:, :HEADS], kv[:, HEADS:]  # strided views
    slots = torch.tensor([5, 9, 4, 47, 0])
    reference.store_kv(k, v, k_cache, v_cache, slots, scales)
    for given, cache, factors in ((k, k_cache, scales.keys), (v, v_cache, scales.values)):
        for token, slot in enumerate(slots.tolist()):
            block, offset = divmod(slot, SIZE)
            read = cache[block, :, offset].float() * factors[block, :, offset, None]
            largest = given[token].abs().amax(-1, keepdim=True)
            assert ((read - given[token]).abs() <= bound * largest * 1.001).all()
    assert scales.keys.isnan().sum() == scales.keys.numel() - 5 * HEADS


@pytest.mark.parametrize("name", sorted(KV_DTYPES))
@pytest.mark.parametrize("window", [None, 3, 9])
@pytest.mark.parametrize("lens", [[1, 1], [6, 1, 3], [14]])
def test_attention_equals_that_over_the_dequantised_values(name: str, window: int | None, lens: list[int]) -> None:
    k_cache, v_cache, scales = caches(KV_DTYPES[name])
    totals = [14] if len(lens) == 1 else [n + 5 for n in lens]
    table = torch.arange(1, 1 + len(lens) * 4, dtype=torch.int32).view(len(lens), 4)
    for row, total in zip(table, totals, strict=True):
        slots = (row.long()[:, None] * SIZE + torch.arange(SIZE)).flatten()[:total]
        kv = torch.randn(total, 2 * HEADS, DIM)
        reference.store_kv(kv[:, :HEADS], kv[:, HEADS:], k_cache, v_cache, slots, scales)
    starts = torch.tensor([0, *torch.tensor(lens).cumsum(0).tolist()], dtype=torch.int32)
    positions = torch.cat([torch.arange(t - n, t) for n, t in zip(lens, totals, strict=True)])
    seq_lens = torch.tensor(totals, dtype=torch.int32)
    batch = BatchContext(positions, starts, seq_lens, tuple(lens), max(totals), ())
    group = KVGroupBatch(table, torch.empty(0, dtype=torch.int64))
    q = torch.randn(sum(lens), 2 * HEADS, DIM)
    plain = [
        (cache.float() * factors.unsqueeze(-1)) for cache, factors in ((k_cache, scales.keys), (v_cache, scales.values))
    ]
    expected = reference.paged_attention(q, plain[0], plain[1], batch, group, 0.25, window)
    found = reference.paged_attention(q, k_cache, v_cache, batch, group, 0.25, window, scales)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", sorted(KV_DTYPES))
def test_values_that_are_not_numbers_stay_so(name: str) -> None:
    x = torch.randn(3, HEADS, DIM)
    x[1, 0, 3] = float("nan")
    values, scales = reference.quantize_rows(x, KV_DTYPES[name])
    read = values.float() * scales
    assert read[1, 0].isnan().any()
    assert torch.isfinite(read[[0, 2]]).all()
