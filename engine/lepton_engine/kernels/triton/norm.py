"""Root-mean-square norm, alone and with the addition to the residual stream before it."""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.triton.launch import blocks, next_power


@triton.jit(do_not_specialize=["rows"])
def _rms_norm(
    x_ptr,
    residual_ptr,
    weight_ptr,
    out_ptr,
    total_ptr,
    rows,
    inner,
    size,
    outer_stride,
    inner_stride,
    eps,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (column < size)[None, :]
    start = (row // inner) * outer_stride + (row % inner) * inner_stride
    x = tl.load(x_ptr + start[:, None] + column[None, :], mask=inside, other=0.0)
    dense = row[:, None] * size + column[None, :]
    wide = x.to(tl.float32)
    if ADD:
        wide += tl.load(residual_ptr + dense, mask=inside, other=0.0).to(tl.float32)
        x = wide.to(x.dtype)
        tl.store(total_ptr + dense, x, mask=inside)
        wide = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=1) / size + eps)
    # Rounded before the weight is applied, as the families' reference does.
    normed = (wide * scale[:, None]).to(x.dtype).to(tl.float32)
    weight = tl.load(weight_ptr + column, mask=column < size, other=0.0).to(tl.float32)
    tl.store(out_ptr + dense, (normed * weight[None, :]).to(out_ptr.dtype.element_ty), mask=inside)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `reference.rms_norm`. x: [T, D] or [T, H, D], strided as it likes but for its last dimension."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(x, None, weight, out, None, eps)
    return out


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `reference.add_rms_norm`; x [T, D]. The new residual is written over the old one where that is contiguous."""
    total = residual if residual.is_contiguous() else residual.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(x, total, weight, out, total, eps)
    return out, total


def _launch(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    out: torch.Tensor,
    total: torch.Tensor | None,
    eps: float,
) -> None:
    if x.stride(-1) != 1 or x.dim() not in (2, 3):
        x = x.contiguous().flatten(0, -2)
    size = x.shape[-1]
    rows = x.numel() // max(size, 1)
    if rows == 0:
        return
    block = next_power(size)
    tile_rows = max(1, min(16, 512 // block))
    _rms_norm[(blocks(rows, tile_rows),)](
        x,
        residual if residual is not None else x,
        weight,
        out,
        total if total is not None else out,
        rows,
        x.shape[1] if x.dim() == 3 else 1,
        size,
        x.stride(0),
        x.stride(1) if x.dim() == 3 else 0,
        eps,
        ADD=residual is not None,
        ROWS=tile_rows,
        BLOCK=block,
        num_warps=4 if block * tile_rows <= 2048 else 8,
        enable_fp_fusion=False,
    )
