"""Quantised linear layers: which product for how many rows, and the conversions beside them."""

import torch
import triton
import triton.language as tl
from torch.nn import functional

from lepton_engine.kernels import reference
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.kernels.triton.launch import INTERPRETED, blocks, next_power
from lepton_engine.kernels.triton.matmul import bytes_of, fits, small_product
from lepton_engine.kernels.triton.tuning import limit

_FP8_LARGEST = 448.0  # of float8_e4m3fn
_FP8_CAPABILITY = (8, 9)
_SCALED_MM_MULTIPLE = 16  # of both dimensions of a weight that torch._scaled_mm takes


def computes_fp8(device: torch.device) -> bool:
    """Whether kernels on the device can read fp8: from compute capability 8.9 on."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= _FP8_CAPABILITY


@triton.jit
def _dequantize(
    data_ptr,
    scale_ptr,
    zero_ptr,
    out_ptr,
    k,
    group,
    INT4: tl.constexpr,
    FP8: tl.constexpr,
    ZEROS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = column < k
    if INT4:
        byte = tl.load(data_ptr + row * (k // 2) + column // 2, mask=real, other=0).to(tl.int32)
        wide = ((byte >> ((column % 2) * 4)) & 15).to(tl.float32)
        scale_at = row * (k // group) + column // group
        if ZEROS:
            wide -= tl.load(zero_ptr + scale_at, mask=real, other=0).to(tl.float32)
        else:
            wide -= 8.0
        wide *= tl.load(scale_ptr + scale_at, mask=real, other=0.0)
    else:
        data = tl.load(data_ptr + row * k + column, mask=real, other=0)
        if FP8:
            data = data.to(tl.float8e4nv, bitcast=True)
        wide = data.to(tl.float32)
        wide *= tl.load(scale_ptr + row)
    tl.store(out_ptr + row * k + column, wide.to(out_ptr.dtype.element_ty), mask=real)


def dequantize(weight: QuantizedWeight, dtype: torch.dtype) -> torch.Tensor:
    """The weight [out, in] in a plain dtype, its columns in their stored order (before `permutation`)."""
    n, k = weight.out_features, weight.in_features
    out = torch.empty(n, k, dtype=dtype, device=weight.data.device)
    zeros = weight.zeros if weight.zeros is not None else weight.data
    block = min(1024, next_power(k))
    _dequantize[(n, blocks(k, block))](
        bytes_of(weight),
        weight.scales,
        zeros,
        out,
        k,
        weight.group_size,
        INT4=weight.scheme == "int4",
        FP8=weight.scheme == "fp8",
        ZEROS=weight.zeros is not None,
        BLOCK=block,
        num_warps=4,
        enable_fp_fusion=False,
    )
    return out


@triton.jit
def _quantize_rows(x_ptr, out_ptr, scale_ptr, size, x_stride, largest, INTEGERS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    real = column < size
    x = tl.load(x_ptr + row * x_stride + column, mask=real, other=0.0).to(tl.float32)
    # The maximum passes NaN over; the values themselves keep it in fp8, and the scale carries it where they cannot.
    broken = tl.sum((x != x).to(tl.int32), axis=0) > 0
    magnitude = tl.max(tl.abs(x), axis=0)
    scale = tl.where(magnitude == 0.0, 1.0, tl.math.div_rn(magnitude, largest))
    scale = tl.where(broken, float("nan"), scale)
    scaled = tl.math.div_rn(x, scale)
    if INTEGERS:
        # Adding and taking away 1.5 * 2**23 rounds half to even.
        scaled = (scaled + 12582912.0) - 12582912.0
    scaled = tl.minimum(tl.maximum(scaled, -largest), largest)
    if INTEGERS:
        scaled = tl.where(broken, 0.0, scaled)
    tl.store(out_ptr + row * size + column, scaled.to(out_ptr.dtype.element_ty), mask=real)
    tl.store(scale_ptr + row, scale)


def quantize_rows(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """See `reference.quantize_rows`; x [T, D]. A row with NaN has a scale of NaN."""
    rows, size = x.shape
    out = torch.empty(rows, size, dtype=dtype, device=x.device)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    if rows:
        _quantize_rows[(rows,)](
            x,
            out,
            scales,
            size,
            x.stride(0),
            127.0 if dtype == torch.int8 else _FP8_LARGEST,
            INTEGERS=dtype == torch.int8,
            BLOCK=next_power(size),
            num_warps=8,
            enable_fp_fusion=False,
        )
    return out, scales


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, invariant: bool) -> torch.Tensor:
    """See `dispatch.linear`: one row, and all rows that must not depend on one another, by our own kernels."""
    if invariant or (0 < x.shape[0] <= limit("dense_rows", x.device) and weight.is_contiguous()):
        return small_product(_rows(x), weight.contiguous(), bias, invariant=invariant)
    return functional.linear(x, weight, bias)


def quantized_linear(
    x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None, *, invariant: bool = False
) -> torch.Tensor:
    """See `reference.quantized_linear`. Few rows read the weight as it is; many take the vendor's product.

    Args:
        invariant: kernels whose results do not depend on the number of rows.
    """
    if weight.scheme == "fp8" and not computes_fp8(x.device):
        return reference.quantized_linear(x, weight, bias)
    x = _rows(x if weight.permutation is None else x[:, weight.permutation])
    few = invariant or x.shape[0] <= limit("quantized_rows", x.device)
    if weight.activations == "int8":
        quantized, scales = quantize_rows(x, torch.int8)
        if few:
            return small_product(quantized, weight, bias, x_scales=scales, out_dtype=x.dtype, invariant=invariant)
        total = torch._int_mm(quantized, weight.data.t()).float() * scales * weight.scales.t()
        return (total if bias is None else total + bias.float()).to(x.dtype)
    if weight.activations == "fp8":
        return _fp8_product(x, weight, bias, invariant=invariant)
    if few and fits(weight):
        return small_product(x, weight, bias, invariant=invariant)
    plain = dequantize(weight, x.dtype)
    return linear(x, plain, bias, invariant=invariant)


def _fp8_product(
    x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None, *, invariant: bool
) -> torch.Tensor:
    """fp8 times fp8 on the tensor cores, in x's dtype; what they do not take is computed as the twin does."""
    quantized, scales = quantize_rows(x, torch.float8_e4m3fn)
    n, k = weight.data.shape
    # torch's product by rows' scales is there for bfloat16 results alone, from compute capability 9.0 on.
    takes = x.is_cuda and not INTERPRETED and x.dtype == torch.bfloat16 and torch.cuda.get_device_capability() >= (9, 0)
    if takes and not invariant and n % _SCALED_MM_MULTIPLE == 0 and k % _SCALED_MM_MULTIPLE == 0:
        product = torch._scaled_mm(
            quantized,
            weight.data.t(),
            scale_a=scales,
            scale_b=weight.scales.t(),
            out_dtype=torch.bfloat16,
        )
        return product if bias is None else product + bias
    # Values of fp8 are exact in x's dtype, so the product is that of the rounded x.
    out = small_product(quantized.to(x.dtype), weight, None, out_dtype=torch.float32, invariant=invariant)
    out *= scales
    return (out if bias is None else out + bias.float()).to(x.dtype)


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
