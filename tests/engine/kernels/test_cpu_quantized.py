"""Products with quantised weights in panels against float64 arithmetic, at every instruction set."""

import random

import pytest
import torch
from torch.nn import functional

from lepton_engine.kernels import reference
from lepton_engine.kernels.cpu import NativeKernels
from lepton_engine.kernels.quantized import QuantizedWeight, pack_int4

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
SUMS = 4e-6


def weight_of(scheme: str, rows: int, columns: int, group: int | None = None, seed: int = 0) -> QuantizedWeight:
    """Random stored values; groups and zero points of int4 are random too. "int8 rows" quantises the rows of x."""
    generator = torch.Generator().manual_seed(seed)
    groups = columns // (group or columns) if scheme.startswith("int4") else 1
    largest = {"int8": 127, "int4": 8, "fp8": 1}[scheme.split()[0]]
    scales = (torch.rand(rows, groups, generator=generator) + 0.5) / largest / columns**0.5
    if scheme.startswith("int4"):
        data = pack_int4(torch.randint(16, (rows, columns), generator=generator, dtype=torch.uint8))
        zeros = torch.randint(16, (rows, groups), generator=generator, dtype=torch.uint8)
        order = torch.randperm(columns, generator=generator) if scheme == "int4 ordered" else None
        return QuantizedWeight("int4", data, scales, None if scheme == "int4" else zeros, order)
    if scheme == "fp8":
        return QuantizedWeight("fp8", torch.randn(rows, columns, generator=generator).to(torch.float8_e4m3fn), scales)
    data = torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)
    return QuantizedWeight("int8", data, scales, activations="int8" if scheme == "int8 rows" else None)


SCHEMES = ("int8", "int8 rows", "int4", "int4 zeros", "int4 ordered", "fp8")


def quantized_rows(kernels: NativeKernels, x: torch.Tensor, weight: QuantizedWeight) -> torch.Tensor:
    """What products of integers have for rows of x: int8, per row for int8 weights, per group for int4."""
    if weight.scheme == "int4" and kernels.isa != "baseline":
        order = slice(None) if weight.permutation is None else weight.permutation
        values, scales = reference.quantize_rows(x[:, order].reshape(-1, weight.group_size), torch.int8)
        rows = torch.empty(x.shape, dtype=torch.float64)
        rows[:, order] = (values.double() * scales.double()).view(x.shape)
        return rows
    if weight.activations is not None:
        values, scales = reference.quantize_rows(x, torch.int8)
        return values.double() * scales.double()
    return x.double()


def exact(
    kernels: NativeKernels, x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None, *, gated: bool
) -> torch.Tensor:
    out = quantized_rows(kernels, x, weight) @ weight.dequantize(torch.float32).double().t()
    out = out if bias is None else out + bias.double()
    if not gated:
        return out
    gate, other = out.chunk(2, dim=1)
    return functional.silu(gate) * other


def check(kernels: NativeKernels, x: torch.Tensor, weight: QuantizedWeight, *, bias: bool, gated: bool = False) -> None:
    added = torch.randn(weight.out_features).to(x.dtype) if bias else None
    wanted = exact(kernels, x, weight, added, gated=gated)
    packed = kernels.pack_quantized(weight, gated=gated)
    assert packed.outputs == wanted.shape[1]
    for dtype in (x.dtype, torch.float32):
        out = kernels.linear(x, packed, added, dtype)
        error = (out.double() - wanted).abs().max() / wanted.abs().max()
        assert error <= SUMS + (ROUNDING[dtype] if dtype != torch.float32 else 2 * SUMS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 12, 13, 40])
def test_whole_shapes(kernels: NativeKernels, dtype: torch.dtype, scheme: str, rows: int) -> None:
    check(kernels, torch.randn(rows, 256).to(dtype), weight_of(scheme, 96, 256, 32), bias=rows % 2 == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(8))
def test_random_shapes(kernels: NativeKernels, dtype: torch.dtype, scheme: str, seed: int) -> None:
    rng = random.Random(seed)
    group = rng.choice((8, 32, 64, 128))
    columns = group * rng.randint(1, 6) if scheme.startswith("int4") else rng.randint(1, 400)
    weight = weight_of(scheme, 2 * rng.randint(1, 60), columns, group, seed)
    x = torch.randn(rng.randint(1, 30), columns).to(dtype)
    check(kernels, x, weight, bias=rng.random() < 0.5)
    check(kernels, x, weight, bias=rng.random() < 0.5, gated=True)


@pytest.mark.parametrize("columns", [6, 38, 300])
def test_one_group_of_any_length(kernels: NativeKernels, columns: int) -> None:
    check(kernels, torch.randn(3, columns), weight_of("int4 zeros", 40, columns), bias=False)


@pytest.mark.parametrize("group", [32, 64, 1024])
@pytest.mark.parametrize("rows", [1, 6, 13])
def test_largest_values(kernels: NativeKernels, rows: int, group: int) -> None:
    """Sums of the largest products of either sign: none may overflow or saturate."""
    signs = torch.ones(rows, 1024)
    signs[rows // 2 :] = -1
    for stored in (0, 15):
        data = pack_int4(torch.full((40, 1024), stored, dtype=torch.uint8))
        zeros = torch.zeros(40, 1024 // group, dtype=torch.uint8)
        check(kernels, signs, QuantizedWeight("int4", data, torch.full((40, 1024 // group), 0.25), zeros), bias=True)
    for value in (-128, 127):
        data = torch.full((40, 1024), value, dtype=torch.int8)
        check(kernels, signs, QuantizedWeight("int8", data, torch.full((40, 1), 0.25), activations="int8"), bias=True)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_more_rows_than_a_block(kernels: NativeKernels, scheme: str) -> None:
    torch.set_num_threads(2)
    check(kernels, torch.randn(300, 2048).bfloat16(), weight_of(scheme, 70, 2048, 64), bias=True)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_bits_alone_and_in_a_batch(kernels: NativeKernels, scheme: str) -> None:
    x, packed = torch.randn(50, 128).bfloat16(), kernels.pack_quantized(weight_of(scheme, 96, 128, 32))
    together = kernels.linear(x, packed, None)
    for begin, end in ((0, 1), (7, 9), (20, 33), (1, 50)):
        assert torch.equal(kernels.linear(x[begin:end], packed, None), together[begin:end])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_stays_in_its_row(kernels: NativeKernels, scheme: str, bad: float) -> None:
    x = torch.randn(3, 64)
    x[1, 40] = bad
    out = kernels.linear(x, kernels.pack_quantized(weight_of(scheme, 40, 64, 32)), None)
    assert not out[1].isfinite().any()
    assert out[[0, 2]].isfinite().all()


def test_rows_of_zeros(kernels: NativeKernels) -> None:
    for scheme in SCHEMES:
        out = kernels.linear(torch.zeros(2, 64), kernels.pack_quantized(weight_of(scheme, 40, 64, 32)), None)
        assert torch.equal(out, torch.zeros(2, 40))


def test_every_fp8_value(kernels: NativeKernels) -> None:
    stored = torch.arange(256, dtype=torch.uint8)
    stored = stored[(stored & 0x7F) != 0x7F]  # NaN; loaders refuse it
    weight = QuantizedWeight("fp8", stored.view(torch.float8_e4m3fn)[:, None].contiguous(), torch.ones(254, 1))
    out = kernels.linear(torch.ones(1, 1), kernels.pack_quantized(weight), None)
    assert torch.equal(out[0], weight.data[:, 0].float())


def test_what_goes_into_panels(kernels: NativeKernels) -> None:
    assert kernels.takes_quantized(weight_of("int4", 8, 64, 32))
    assert not kernels.takes_quantized(weight_of("int4", 8, 24, 12))
    fp8_rows = QuantizedWeight("fp8", torch.zeros(2, 8).to(torch.float8_e4m3fn), torch.ones(2, 1), activations="fp8")
    assert not kernels.takes_quantized(fp8_rows)
    with pytest.raises(RuntimeError, match="groups of 12"):
        kernels.pack_quantized(weight_of("int4", 8, 24, 12))
    with pytest.raises(RuntimeError, match="not read"):
        kernels.gather(kernels.pack_quantized(weight_of("int8", 8, 24)), torch.tensor([0]))
