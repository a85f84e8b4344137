"""Products of a few rows against float32 arithmetic, at every instruction set."""

import pytest
import torch
from torch.nn import functional

from lepton_engine.kernels import dispatch
from lepton_engine.kernels.cpu import NativeKernels

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# In units of the largest output: sums in float32, then one rounding to the output's dtype.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def check(kernels: NativeKernels, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    out = kernels.linear(x, weight, bias)
    wanted = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert out.dtype == x.dtype
    assert out.shape == wanted.shape
    assert (out.double() - wanted).abs().max() <= 1.01 * TOLERANCE[x.dtype] * wanted.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 23, 64])
@pytest.mark.parametrize(("size", "columns"), [(1, 1), (17, 5), (40, 50), (576, 100), (130, 33)])
def test_linear(kernels: NativeKernels, dtype: torch.dtype, rows: int, size: int, columns: int) -> None:
    x, weight = torch.randn(rows, size).to(dtype), torch.randn(columns, size).to(dtype)
    check(kernels, x, weight, torch.randn(columns).to(dtype) if rows % 2 else None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 6, 20])
def test_views(kernels: NativeKernels, dtype: torch.dtype, rows: int) -> None:
    x, weight = torch.randn(rows, 300).to(dtype), torch.randn(90, 300).to(dtype)
    check(kernels, x[:, 10:106], weight[7:79, 100:196], None)


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_same_bits_whatever_the_threads(kernels: NativeKernels, rows: int) -> None:
    x, weight = torch.randn(rows, 512), torch.randn(3000, 512)
    results = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        results.append(kernels.linear(x, weight, None))
    torch.set_num_threads(1)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_what_is_not_a_number_stays_so(kernels: NativeKernels) -> None:
    x, weight = torch.ones(2, 64), torch.ones(8, 64)
    x[1, 3] = float("nan")
    weight[5, 0] = float("inf")
    out = kernels.linear(x, weight, None)
    assert out[1].isnan().all()
    assert out[0].isinf().nonzero().tolist() == [[5]]


def test_left_to_torch(kernels: NativeKernels) -> None:
    x, weight = torch.randn(2, 8), torch.randn(4, 8)
    assert not kernels.takes_linear(x.double(), weight.double())
    assert not kernels.takes_linear(x, weight.bfloat16())
    assert not kernels.takes_linear(x.t().contiguous().t(), weight)
    assert not kernels.takes_linear(x, weight.t().contiguous().t())
    assert not kernels.takes_linear(torch.randn(5000, 8), weight)
    assert not kernels.takes_linear(torch.randn(1, 2, 8), weight)
    out = dispatch.linear(torch.randn(1, 2, 8), weight, torch.randn(4))
    assert out.shape == (1, 2, 4)
