"""What all launches share."""

import torch
import triton

# Whether kernels run in the interpreter, on tensors in host memory.
INTERPRETED: bool = triton.knobs.runtime.interpret


def next_power(value: int, least: int = 1) -> int:
    """The smallest power of two that is at least `value` and `least`: Triton's tiles have no other sizes."""
    return max(least, 1 << max(0, value - 1).bit_length())


def blocks(total: int, block: int) -> int:
    """Blocks that cover `total`."""
    return -(-total // block)


def widens(dtype: torch.dtype) -> bool:
    """Whether products of tiles are to be taken in float32: the interpreter's bfloat16 products are wrong."""
    return INTERPRETED and dtype == torch.bfloat16


def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a device; in the interpreter a number that makes kernels split their work."""
    if device.type != "cuda":
        return 16
    return torch.cuda.get_device_properties(device).multi_processor_count
