"""Random weights for checkpoints that are quantised."""

from typing import Any

import torch


def spread(module: Any) -> None:
    """Give a model weights that spread its logits, the same every time, and not centred on zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator) + 0.3
                parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
