"""Products with weights in panels against float64 arithmetic, at every instruction set."""

import random

import pytest
import torch
from torch.nn import functional

from lepton_engine.kernels import dispatch
from lepton_engine.kernels.cpu import NativeKernels

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# In units of the largest output: sums in float32, then one rounding to the output's dtype.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
SUMS = 2e-6
"""Of float32 outputs whatever the operands: bfloat16's own dot products flush subnormals and round by pairs."""


def exact(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, gated: bool = False) -> torch.Tensor:
    wanted = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    if not gated:
        return wanted
    gate, other = wanted.chunk(2, dim=1)
    return functional.silu(gate) * other


def check(
    kernels: NativeKernels, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, gated: bool = False
) -> None:
    packed = kernels.pack(weight, gated=gated)
    wanted = exact(x, weight, bias, gated=gated)
    for dtype, tolerance in ((x.dtype, TOLERANCE[x.dtype] + SUMS), (torch.float32, 2 * SUMS)):
        out = kernels.linear(x, packed, bias, dtype)
        assert out.dtype == dtype
        assert out.shape == wanted.shape
        assert (out.double() - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 23, 64])
@pytest.mark.parametrize(("size", "columns"), [(1, 1), (17, 5), (40, 50), (576, 100), (130, 33), (64, 32)])
def test_linear(kernels: NativeKernels, dtype: torch.dtype, rows: int, size: int, columns: int) -> None:
    x, weight = torch.randn(rows, size).to(dtype), torch.randn(columns, size).to(dtype)
    check(kernels, x, weight, torch.randn(columns).to(dtype) if rows % 2 else None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
def test_random_shapes(kernels: NativeKernels, dtype: torch.dtype, seed: int) -> None:
    rng = random.Random(seed)
    rows, size, columns = rng.randint(1, 40), rng.randint(1, 200), 2 * rng.randint(1, 90)
    x, weight = torch.randn(rows, size).to(dtype), torch.randn(columns, size).to(dtype)
    bias = torch.randn(columns).to(dtype) if rng.random() < 0.5 else None
    check(kernels, x, weight, bias)
    check(kernels, x, weight, bias, gated=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_rows_than_a_block(kernels: NativeKernels, dtype: torch.dtype) -> None:
    torch.set_num_threads(2)
    check(kernels, torch.randn(700, 2051).to(dtype), torch.randn(70, 2051).to(dtype), None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 6, 20])
def test_views(kernels: NativeKernels, dtype: torch.dtype, rows: int) -> None:
    x, weight = torch.randn(rows, 300).to(dtype), torch.randn(90, 300).to(dtype)
    check(kernels, x[:, 10:106], weight[7:79, 100:196], None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [64, 65])
def test_same_bits_alone_and_in_a_batch(kernels: NativeKernels, dtype: torch.dtype, size: int) -> None:
    x, packed = torch.randn(50, size).to(dtype), kernels.pack(torch.randn(96, size).to(dtype))
    together = kernels.linear(x, packed, None)
    for begin, end in ((0, 1), (7, 9), (20, 33), (1, 50)):
        assert torch.equal(kernels.linear(x[begin:end], packed, None), together[begin:end])


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_same_bits_whatever_the_threads(kernels: NativeKernels, rows: int) -> None:
    x, packed = torch.randn(rows, 512), kernels.pack(torch.randn(3000, 512))
    results = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        results.append(kernels.linear(x, packed, None))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_what_is_not_a_number_stays_so(kernels: NativeKernels) -> None:
    x, weight = torch.ones(2, 64), torch.ones(8, 64)
    x[1, 3] = float("nan")
    weight[5, 0] = float("inf")
    out = kernels.linear(x, kernels.pack(weight), None)
    assert out[1].isnan().all()
    assert out[0].isinf().nonzero().tolist() == [[5]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [6, 7])
def test_gather(kernels: NativeKernels, dtype: torch.dtype, size: int) -> None:
    weight = torch.randn(45, size).to(dtype)
    ids = torch.tensor([44, 0, 31, 32, 7, 7])
    assert torch.equal(kernels.gather(kernels.pack(weight), ids), weight[ids])
    for bad in (-1, 45):
        with pytest.raises(RuntimeError, match="gather_rows"):
            kernels.gather(kernels.pack(weight), torch.tensor([0, bad]))


def test_what_goes_into_panels(kernels: NativeKernels) -> None:
    weight = torch.randn(4, 8)
    assert not kernels.worth_packing(weight.double())
    assert not kernels.worth_packing(weight.t())
    assert kernels.worth_packing(weight) == (kernels.isa != "baseline")
    packed = kernels.pack(weight)
    assert (packed.numel(), packed.outputs, packed.dtype) == (32, 4, torch.float32)
    assert kernels.pack(weight, gated=True).outputs == 2
    assert not kernels.takes_linear(torch.randn(2, 8).bfloat16(), packed)
    assert not kernels.takes_linear(torch.randn(8, 2).t(), packed)
    with pytest.raises(RuntimeError, match="bfloat16"):
        dispatch.linear(torch.randn(2, 8).bfloat16(), packed, None)
