"""Quantised KV caches: what the kernels store and read, against the reference, at every instruction set."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lepton_engine.kernels import reference
from lepton_engine.kernels.cpu import NativeKernels
from lepton_engine.kernels.invariance import batch_invariance
from lepton_engine.kernels.kv_scales import KV_DTYPES, KVScales

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Of attention, in units of the largest output; keys and values are rounded to the dtype once more.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}


Cache = tuple[torch.Tensor, torch.Tensor, KVScales]


def empty_cache(blocks: int, kv_heads: int, size: int, dim: int, stored: torch.dtype) -> Cache:
    keys, values = (torch.zeros(blocks, kv_heads, size, dim, dtype=torch.uint8).view(stored) for _ in range(2))
    return keys, values, KVScales(*(torch.zeros(blocks, kv_heads, size) for _ in range(2)))


def widened(cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values, scales = cache
    return keys.float() * scales.keys.unsqueeze(-1), values.float() * scales.values.unsqueeze(-1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", KV_DTYPES.values(), ids=KV_DTYPES.keys())
@pytest.mark.parametrize(("kv_heads", "dim", "size"), [(1, 64, 16), (3, 24, 4), (2, 5, 1), (2, 130, 16)])
def test_store(
    kernels: NativeKernels, dtype: torch.dtype, stored: torch.dtype, kv_heads: int, dim: int, size: int
) -> None:
    tokens = 19
    k, v = (
        (torch.randn(tokens, kv_heads, dim) * torch.rand(tokens, 1, 1) * 30).to(dtype).unsqueeze(0).repeat(2, 1, 1, 1)
    )
    v = v.flip(0).contiguous()
    k[3] = 0
    slots = torch.randperm(40 * size)[:tokens]
    own, wanted = empty_cache(40, kv_heads, size, dim, stored), empty_cache(40, kv_heads, size, dim, stored)
    assert kernels.takes_store(k, v, *own)
    kernels.store_kv(k, v, own[0], own[1], slots, own[2])
    reference.store_kv(k, v, wanted[0], wanted[1], slots, wanted[2])
    factors = (wanted[2].keys, wanted[2].values)
    for mine, theirs, scales in zip(widened(own), widened(wanted), factors, strict=True):
        step = scales.unsqueeze(-1) * (1 if stored == torch.int8 else 32)
        assert ((mine - theirs).abs() <= 1.001 * step).all()  # a tie may fall to either side
        assert ((mine - theirs).abs() > 1e-6 * theirs.abs()).float().mean() < 0.01


def test_every_fp8_value_is_stored_as_it_is(kernels: NativeKernels) -> None:
    stored = torch.arange(256, dtype=torch.uint8)
    stored = stored[(stored & 0x7F) != 0x7F]
    k = stored.view(torch.float8_e4m3fn).float().view(1, 1, 254)  # its largest is 448: the scale is 1
    cache = empty_cache(1, 1, 1, 254, torch.float8_e4m3fn)
    kernels.store_kv(k, k, cache[0], cache[1], torch.tensor([0]), cache[2])
    assert torch.equal(cache[0].view(torch.uint8).flatten(), stored)


@pytest.mark.parametrize("stored", KV_DTYPES.values(), ids=KV_DTYPES.keys())
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_stays_with_its_token(kernels: NativeKernels, stored: torch.dtype, bad: float) -> None:
    k = torch.randn(3, 1, 16)
    k[1, 0, 5] = bad
    cache = empty_cache(1, 1, 16, 16, stored)
    kernels.store_kv(k, k, cache[0], cache[1], torch.arange(3), cache[2])
    assert cache[2].keys[0, 0, :3].isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", KV_DTYPES.values(), ids=KV_DTYPES.keys())
@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_attention(
    kernels: NativeKernels,
    attention_case: Callable[..., Any],
    dtype: torch.dtype,
    stored: torch.dtype,
    window: int | None,
    invariant: bool,
    seed: int,
) -> None:
    rng = random.Random(seed)
    lens = []
    for _ in range(rng.randint(1, 5)):
        seq = rng.choice((rng.randint(1, 40), rng.randint(100, 600)))
        lens.append((1 if rng.random() < 0.5 else rng.randint(1, min(seq, 70)), seq))
    kv_heads, dim, size = rng.choice((1, 2)), rng.choice((16, 40, 64)), rng.choice((4, 16))
    # Pairs of keys that are always the same ones begin a key before the window; it is in the sequence's own block.
    written = window + 1 if window and invariant else window
    case = attention_case(lens, kv_heads * rng.choice((1, 3, 13)), kv_heads, dim, size, dtype, seed, written)
    blocks = case.k_cache.shape[0]
    keys, values, scales = cache = empty_cache(blocks, kv_heads, size, dim, stored)
    # What nobody wrote stays NaN, by its scale.
    rows = [c.transpose(1, 2).reshape(blocks * size, kv_heads, dim).contiguous() for c in (case.k_cache, case.v_cache)]
    kernels.store_kv(rows[0], rows[1], keys, values, torch.arange(blocks * size), scales)
    assert kernels.takes_attention(case.q, *cache)
    with batch_invariance(invariant):
        out = kernels.paged_attention(case.q, keys, values, case.batch, case.group, 0.2, window, scales)
    wide_keys, wide_values = (part.to(dtype).float() for part in widened(cache))
    wanted = reference.paged_attention(case.q.float(), wide_keys, wide_values, case.batch, case.group, 0.2, window)
    assert (out.float() - wanted).abs().max() <= TOLERANCE[dtype] * wanted.abs().max()


def test_left_to_the_twin(kernels: NativeKernels) -> None:
    q = torch.randn(2, 2, 8)
    cache = empty_cache(4, 2, 16, 8, torch.int8)
    assert not kernels.takes_attention(q, cache[0], cache[1], None)
    row = torch.randn(1, 1, 1040)
    assert not kernels.takes_store(row, row, *empty_cache(1, 1, 1, 1040, torch.int8))
