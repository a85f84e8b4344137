"""Products of few rows with a weight that is read once from memory, plain or quantised.

`_matvec` is for one row: every weight is multiplied and added as it comes, with no tile of a tensor core to fill.
`_matmul` is for some rows, and in batch-invariant use for any number. Integers and fp8 are turned into the dtype of x,
which holds them exactly; scales multiply the sums.
"""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.quantized import INT4_ZERO, QuantizedWeight
from lepton_engine.kernels.triton.launch import blocks, next_power, widens
from lepton_engine.kernels.triton.tuning import pick

# What a weight is, for the kernels: plain; int8 by rows; int4 by groups; int8 with x in int8 too; bytes of fp8 by rows.
PLAIN, INT8, INT4, INT8_BOTH, FP8 = 0, 1, 2, 3, 4
LEAST_SEGMENT = 16  # neighbouring columns with one scale that a tile needs
_ADD_BLOCK = 256
# An integer below 2**23 in the low bits of this float32 makes it 2**23 + integer: no conversion needed.
_FLOAT_OF_BITS = tl.constexpr(0x4B000000)
_TWO_23 = tl.constexpr(8388608.0)


@triton.jit
def _matvec(
    x_ptr,
    weight_ptr,
    scale_ptr,
    zero_ptr,
    bias_ptr,
    out_ptr,
    n,
    width,
    x_stride,
    group,
    groups,
    split_width,
    KIND: tl.constexpr,
    ZEROS: tl.constexpr,
    BIAS: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SEGMENT: tl.constexpr,
):
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1)
    split = tl.program_id(2)
    x_ptr += row.to(tl.int64) * x_stride
    real = column < n
    # In stored elements, of int4 two columns each: compared as they are, so that loads stay wide.
    first = split * split_width
    last = tl.minimum(width, first + split_width)
    wide_column = column.to(tl.int64)
    if KIND == 2:
        SEGMENTS: tl.constexpr = BLOCK_K // SEGMENT
        HALF: tl.constexpr = SEGMENT // 2
        sums = tl.zeros([BLOCK_N, SEGMENTS, HALF], dtype=tl.float32)
        segment = tl.arange(0, SEGMENTS)
        for start in tl.range(first, last, BLOCK_K // 2):
            at = start * 2 + tl.arange(0, BLOCK_K)
            x = tl.load(x_ptr + at, mask=at < last * 2, other=0.0).to(tl.float32)
            even, odd = tl.split(tl.reshape(x, [SEGMENTS, HALF, 2]))
            byte = start + segment[:, None] * HALF + tl.arange(0, HALF)[None, :]
            packed = tl.load(
                weight_ptr + wide_column[:, None, None] * width + byte[None, :, :],
                mask=real[:, None, None] & (byte < last)[None, :, :],
                other=0,
            ).to(tl.int32)
            of_group = start * 2 + segment * SEGMENT
            known = real[:, None] & (of_group < last * 2)[None, :]
            scale_at = wide_column[:, None] * groups + (of_group // group)[None, :]
            scale = tl.load(scale_ptr + scale_at, mask=known, other=0.0)
            base = tl.full([BLOCK_N, SEGMENTS], _TWO_23 + 8.0, dtype=tl.float32)
            if ZEROS:
                base = _TWO_23 + tl.load(zero_ptr + scale_at, mask=known, other=0).to(tl.float32)
            low = ((packed & 15) | _FLOAT_OF_BITS).to(tl.float32, bitcast=True) - base[:, :, None]
            high = ((packed >> 4) | _FLOAT_OF_BITS).to(tl.float32, bitcast=True) - base[:, :, None]
            sums += scale[:, :, None] * (low * even[None, :, :] + high * odd[None, :, :])
        total = tl.sum(tl.sum(sums, axis=2), axis=1)
    else:
        flat = tl.zeros([BLOCK_N, BLOCK_K], dtype=tl.float32)
        for start in tl.range(first, last, BLOCK_K):
            at = start + tl.arange(0, BLOCK_K)
            x = tl.load(x_ptr + at, mask=at < last, other=0.0).to(tl.float32)
            weight = tl.load(
                weight_ptr + wide_column[:, None] * width + at[None, :],
                mask=real[:, None] & (at < last)[None, :],
                other=0,
            )
            if KIND == 4:
                weight = weight.to(tl.float8e4nv, bitcast=True)
            flat += weight.to(tl.float32) * x[None, :]
        total = tl.sum(flat, axis=1)
        if KIND != 0:
            total *= tl.load(scale_ptr + column, mask=real, other=0.0)
    if SPLIT:
        out_ptr += split.to(tl.int64) * tl.num_programs(1) * n
    elif BIAS:
        total += tl.load(bias_ptr + column, mask=real, other=0.0).to(tl.float32)
    tl.store(out_ptr + row.to(tl.int64) * n + column, total.to(out_ptr.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["rows"])
def _matmul(
    x_ptr,
    x_scale_ptr,
    weight_ptr,
    scale_ptr,
    zero_ptr,
    bias_ptr,
    out_ptr,
    rows,
    n,
    width,
    x_stride,
    group,
    groups,
    split_width,
    KIND: tl.constexpr,
    ZEROS: tl.constexpr,
    BIAS: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(2)
    wide_row = row.to(tl.int64)
    wide_column = column.to(tl.int64)
    first = split * split_width
    last = tl.minimum(width, first + split_width)
    sums = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.int32 if KIND == 3 else tl.float32)
    PACKED: tl.constexpr = 2 if KIND == 2 else 1
    for start in tl.range(first, last, BLOCK_K // PACKED):
        at = start * PACKED + tl.arange(0, BLOCK_K)
        x = tl.load(
            x_ptr + wide_row[:, None] * x_stride + at[None, :],
            mask=(row < rows)[:, None] & (at < last * PACKED)[None, :],
            other=0,
        )
        if KIND == 2:
            byte = start + tl.arange(0, BLOCK_K // 2)
            packed = tl.load(
                weight_ptr + wide_column[:, None] * width + byte[None, :],
                mask=(column < n)[:, None] & (byte < last)[None, :],
                other=0,
            ).to(tl.int32)
            bits = tl.interleave(packed & 15, packed >> 4) | _FLOAT_OF_BITS
            scale_at = wide_column * groups + start * 2 // group
            base = tl.full([BLOCK_N], _TWO_23 + 8.0, dtype=tl.float32)
            if ZEROS:
                base = _TWO_23 + tl.load(zero_ptr + scale_at, mask=column < n, other=0).to(tl.float32)
            weight = (bits.to(tl.float32, bitcast=True) - base[:, None]).to(x.dtype)
            if WIDE:
                x = x.to(tl.float32)
                weight = weight.to(tl.float32)
            part = tl.dot(x, tl.trans(weight), input_precision="ieee")
            sums += part * tl.load(scale_ptr + scale_at, mask=column < n, other=0.0)[None, :]
        else:
            weight = tl.load(
                weight_ptr + wide_column[:, None] * width + at[None, :],
                mask=(column < n)[:, None] & (at < last)[None, :],
                other=0,
            )
            if KIND == 3:
                sums += tl.dot(x, tl.trans(weight), out_dtype=tl.int32)
            else:
                if KIND == 4:
                    weight = weight.to(tl.float8e4nv, bitcast=True)
                if KIND != 0:
                    weight = weight.to(tl.float32).to(x.dtype)
                if WIDE:
                    x = x.to(tl.float32)
                    weight = weight.to(tl.float32)
                sums = tl.dot(x, tl.trans(weight), sums, input_precision="ieee")
    total = sums.to(tl.float32)
    if KIND == 3:
        total *= tl.load(x_scale_ptr + row, mask=row < rows, other=0.0)[:, None]
    if KIND != 0 and KIND != 2:
        total *= tl.load(scale_ptr + column, mask=column < n, other=0.0)[None, :]
    if SPLIT:
        out_ptr += split.to(tl.int64) * rows * n
    elif BIAS:
        total += tl.load(bias_ptr + column, mask=column < n, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out_ptr + wide_row[:, None] * n + column[None, :],
        total.to(out_ptr.dtype.element_ty),
        mask=(row < rows)[:, None] & (column < n)[None, :],
    )


@triton.jit(do_not_specialize=["parts"])
def _add_parts(parts_ptr, bias_ptr, out_ptr, parts, n, BIAS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = column < n
    total = tl.zeros([BLOCK], dtype=tl.float32)
    size = tl.num_programs(0).to(tl.int64) * n
    for part in range(parts):
        total += tl.load(parts_ptr + part * size + row * n + column, mask=real, other=0.0)
    if BIAS:
        total += tl.load(bias_ptr + column, mask=real, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * n + column, total.to(out_ptr.dtype.element_ty), mask=real)


def kind_of(weight: torch.Tensor | QuantizedWeight) -> int:
    """What a weight is for the kernels, x being in its own dtype."""
    if isinstance(weight, torch.Tensor):
        return PLAIN
    return {"int8": INT8, "int4": INT4, "fp8": FP8}[weight.scheme]


def bytes_of(weight: QuantizedWeight) -> torch.Tensor:
    """Its data; fp8 as bytes, which the kernels take for fp8 (a masked load of fp8 itself has no zero)."""
    return weight.data.view(torch.uint8) if weight.scheme == "fp8" else weight.data


def segment_of(weight: torch.Tensor | QuantizedWeight) -> int:
    """Neighbouring columns that a tile may take with one scale, a power of two; 0 where any number will do."""
    if isinstance(weight, torch.Tensor) or weight.scheme != "int4":
        return 0
    return weight.group_size & -weight.group_size


def fits(weight: torch.Tensor | QuantizedWeight) -> bool:
    """Whether `small_product` takes the weight: groups whose size has too small a power of two go elsewhere."""
    segment = segment_of(weight)
    return segment == 0 or segment >= LEAST_SEGMENT


def small_product(
    x: torch.Tensor,
    weight: torch.Tensor | QuantizedWeight,
    bias: torch.Tensor | None,
    *,
    x_scales: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    invariant: bool = False,
) -> torch.Tensor:
    """x [T, in] times a weight [out, in] transposed, plus bias [out] -> [T, out].

    Args:
        x: its last dimension contiguous, columns in the weight's stored order.
        x_scales: float32 [T, 1] where x is int8; the weight then is int8 too.
        out_dtype: None is x's.
        invariant: one tile shape for any T, so that a row's result does not depend on the others.
    """
    rows, k = x.shape
    data = weight if isinstance(weight, torch.Tensor) else bytes_of(weight)
    n = data.shape[0]
    out = torch.empty(rows, n, dtype=out_dtype or x.dtype, device=x.device)
    if rows == 0:
        return out
    kind = kind_of(weight) if x_scales is None else INT8_BOTH
    segment = segment_of(weight)
    vector = rows == 1 and not invariant and kind != INT8_BOTH
    name = "matvec" if vector else "matmul_invariant" if invariant else "matmul"
    bits = 8 * data.element_size() // (2 if kind == INT4 else 1)
    tiles = pick(name, x.device, rows=rows, n=n, k=k, bits=bits)
    block_k = min(tiles["block_k"], next_power(k, 32 if kind == INT8_BOTH else 16))
    if segment:
        segment = min(segment, block_k)
        block_k = block_k if vector else segment
    splits = max(1, min(tiles["splits"], k // block_k))
    split_k = blocks(blocks(k, splits), block_k) * block_k
    splits = blocks(k, split_k)
    width = data.shape[1]
    split_width = split_k * width // k
    target = out if splits == 1 else torch.empty(splits, rows, n, dtype=torch.float32, device=x.device)
    scales, zeros, group, groups = data, data, k, 1
    if isinstance(weight, QuantizedWeight):
        scales = weight.scales
        zeros = weight.zeros if weight.zeros is not None else data
        group, groups = weight.group_size, weight.scales.shape[1]
    has_zeros = isinstance(weight, QuantizedWeight) and weight.zeros is not None
    shared = {
        "KIND": kind,
        "ZEROS": has_zeros,
        "BIAS": bias is not None,
        "SPLIT": splits > 1,
        "BLOCK_N": tiles["block_n"],
        "BLOCK_K": block_k,
        "num_warps": tiles["warps"],
        "num_stages": tiles["stages"],
        "enable_fp_fusion": True,
    }
    given_bias = bias if bias is not None else data
    if vector:
        grid = (blocks(n, tiles["block_n"]), rows, splits)
        _matvec[grid](
            x,
            data,
            scales,
            zeros,
            given_bias,
            target,
            n,
            width,
            x.stride(0),
            group,
            groups,
            split_width,
            SEGMENT=segment,
            **shared,
        )
    else:
        grid = (blocks(rows, tiles["block_m"]), blocks(n, tiles["block_n"]), splits)
        x_given = x_scales if x_scales is not None else scales
        _matmul[grid](
            x,
            x_given,
            data,
            scales,
            zeros,
            given_bias,
            target,
            rows,
            n,
            width,
            x.stride(0),
            group,
            groups,
            split_width,
            BLOCK_M=tiles["block_m"],
            WIDE=widens(x.dtype),
            **shared,
        )
    if splits > 1:
        _add_parts[(rows, blocks(n, _ADD_BLOCK))](
            target,
            given_bias,
            out,
            splits,
            n,
            BIAS=bias is not None,
            BLOCK=_ADD_BLOCK,
            num_warps=2,
            enable_fp_fusion=True,
        )
    return out


assert INT4_ZERO == 8, "the kernels' symmetric zero point"
