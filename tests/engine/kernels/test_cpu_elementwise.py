"""Norms, rotary embedding, cache stores and the gated activation against their twins, at every instruction set."""

import pytest
import torch

from lepton_engine.kernels import reference
from lepton_engine.kernels.cpu import NativeKernels

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Where an intermediate result lies between two 16-bit numbers either neighbour is right, and the product after it
# rounds again: two units in the last place.
TOLERANCE = {torch.float32: (1e-5, 1e-6), torch.bfloat16: (2**-6, 2**-9), torch.float16: (2**-9, 2**-12)}


def close(actual: torch.Tensor, wanted: torch.Tensor) -> None:
    rtol, atol = TOLERANCE[actual.dtype]
    assert actual.dtype == wanted.dtype
    torch.testing.assert_close(actual.float(), wanted.float(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (1, 576), (3, 17), (70, 96), (200, 2048), (0, 64)])
def test_rms_norm(kernels: NativeKernels, dtype: torch.dtype, rows: int, dim: int) -> None:
    x, weight = (torch.randn(rows, dim) * 3).to(dtype), torch.randn(dim).to(dtype)
    close(kernels.rms_norm(x, weight, 1e-5), reference.rms_norm(x, weight, 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_of_views(kernels: NativeKernels, dtype: torch.dtype) -> None:
    fused, weight = torch.randn(5, 12, 32).to(dtype), torch.randn(32).to(dtype)
    heads, column = fused[:, :7], fused.flatten(1)[:, 64:96]
    for x in (heads, column, fused):
        assert kernels.takes(x)
        close(kernels.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))
    assert not kernels.takes(fused.transpose(1, 2))
    assert not kernels.takes(fused.double())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "dim"), [(1, 576), (3, 17), (70, 96), (200, 2048)])
def test_add_rms_norm(kernels: NativeKernels, dtype: torch.dtype, rows: int, dim: int) -> None:
    x, residual, weight = torch.randn(rows, dim).to(dtype), torch.randn(rows, dim).to(dtype), torch.randn(dim).to(dtype)
    assert kernels.takes_rows(x, residual)
    normed, total = reference.add_rms_norm(x, residual, weight, 1e-5)
    own_normed, own_total = kernels.add_rms_norm(x, residual.clone(), weight, 1e-5)
    close(own_normed, normed)
    assert torch.equal(own_total, total)
    assert not kernels.takes_rows(x, residual.t().contiguous().t() if rows > 1 else residual.double())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "rotary_dim"), [(9, 3, 64, 64), (2, 1, 40, 20), (8, 8, 96, 96), (1, 1, 6, 2)]
)
@pytest.mark.parametrize("tokens", [1, 37])
def test_rotary(
    kernels: NativeKernels, dtype: torch.dtype, heads: int, kv_heads: int, dim: int, rotary_dim: int, tokens: int
) -> None:
    fused = torch.randn(tokens, heads + 2 * kv_heads, dim).to(dtype)
    angles = torch.rand(50, rotary_dim // 2) * 6
    table = torch.cat([angles.cos(), angles.sin()], -1)
    positions = torch.randint(50, (tokens,))
    wanted = fused.clone()
    reference.apply_rotary(wanted[:, :heads], wanted[:, heads : heads + kv_heads], positions, table)
    q, k = fused[:, :heads], fused[:, heads : heads + kv_heads]
    assert kernels.takes_heads(q)
    assert kernels.takes_heads(k)
    kernels.apply_rotary(q, k, positions, table)
    close(fused, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_size", [1, 8, 16])
def test_store_kv(kernels: NativeKernels, dtype: torch.dtype, block_size: int) -> None:
    tokens, heads, kv_heads, dim = 23, 4, 2, 24
    fused = torch.randn(tokens, heads + 2 * kv_heads, dim).to(dtype)
    k, v = torch.split(fused[:, heads:], [kv_heads, kv_heads], 1)
    slots = torch.randperm(40 * block_size)[:tokens]
    # One buffer of all layers: a layer's blocks are apart from each other.
    pool = torch.randn(40, 2, 2, kv_heads, block_size, dim).to(dtype)
    wanted, own = pool.clone(), pool.clone()
    reference.store_kv(k, v, wanted[:, 1, 0], wanted[:, 1, 1], slots)
    assert kernels.takes_store(k, v, own[:, 1, 0], own[:, 1, 1])
    kernels.store_kv(k, v, own[:, 1, 0], own[:, 1, 1], slots)
    close(own, wanted)
    assert torch.equal(own[:, 0], pool[:, 0])


def test_store_kv_refuses_another_dtype(kernels: NativeKernels) -> None:
    k, cache = torch.randn(3, 2, 8), torch.zeros(4, 2, 16, 8)
    assert kernels.takes_store(k, k, cache, cache)
    assert not kernels.takes_store(k, k, cache.bfloat16(), cache.bfloat16())
    assert not kernels.takes_store(k.transpose(0, 1), k, cache, cache)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "dim"), [(1, 1536), (3, 5), (70, 96)])
def test_silu_mul(kernels: NativeKernels, dtype: torch.dtype, rows: int, dim: int) -> None:
    gate_up = (torch.randn(rows, 2 * dim) * 4).to(dtype)
    gate_up[0, 0], gate_up[0, 1 % dim] = -200, 200
    close(kernels.silu_mul(gate_up), reference.silu_mul(gate_up))
    padded = torch.cat([gate_up, gate_up], 1)[:, : 2 * dim]
    close(kernels.silu_mul(padded), reference.silu_mul(gate_up))


def test_float16_of_every_bit_pattern(kernels: NativeKernels) -> None:
    """Through a store and a load: what is no NaN comes back as torch would round it."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16).view(256, 256)
    one = torch.full_like(x, 1.0)
    finite = x.isfinite()
    _, total = kernels.add_rms_norm(x, one, torch.ones(256, dtype=torch.float16), 1.0)
    assert torch.equal(total[finite], (x + 1)[finite])
    assert total[x.isnan()].isnan().all()


@pytest.mark.parametrize("columns", [1, 7, 64, 2047, 2048, 2049, 10000])
def test_argmax(kernels: NativeKernels, columns: int) -> None:
    generator = torch.Generator().manual_seed(columns)
    rows = torch.randint(-20, 20, (9, columns), generator=generator).float()  # many are equal
    rows[1] = -torch.inf
    rows[2, columns // 2] = torch.inf
    rows[3, columns // 3] = torch.nan
    rows[4, columns - 1] = torch.nan
    rows[5] = torch.nan
    rows[6, columns - 1] = 99
    rows[7] = -0.0
    best, index = kernels.argmax(rows)
    wanted = torch.where(rows.isnan(), torch.inf, rows.nan_to_num(nan=0, posinf=1e30, neginf=-1e30))
    for row in range(9):
        places = (wanted[row] == wanted[row].max()).nonzero()
        assert index[row] == places[0]
        assert torch.equal(best[row].nan_to_num(nan=7), rows[row, index[row]].nan_to_num(nan=7))
    if columns > 7:
        assert torch.equal(kernels.argmax(rows[:, 3:-2])[1], kernels.argmax(rows[:, 3:-2].contiguous())[1])
