"""silu(gate) * up."""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.triton.launch import blocks

_BLOCK = 1024


@triton.jit
def _silu_mul(gate_up_ptr, out_ptr, size, row_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    gate = tl.load(gate_up_ptr + row * row_stride + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * row_stride + size + column, mask=inside, other=0.0).to(tl.float32)
    dtype = out_ptr.dtype.element_ty
    # Rounded before the product, as two operations of torch do.
    activated = (gate / (1.0 + tl.exp(-gate))).to(dtype).to(tl.float32)
    tl.store(out_ptr + row * size + column, (activated * up).to(dtype), mask=inside)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `reference.silu_mul`."""
    if gate_up.stride(-1) != 1:
        gate_up = gate_up.contiguous()
    rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, size, dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        _silu_mul[(rows, blocks(size, _BLOCK))](
            gate_up, out, size, gate_up.stride(0), BLOCK=_BLOCK, num_warps=4, enable_fp_fusion=False
        )
    return out
