"""Drawing from a short list: rows with a small top_k need no more of the vocabulary than their candidates."""

from collections.abc import Sequence

import torch

from lepton_engine.runtime.selection import draw, top_values
from lepton_engine.runtime.truncation import Truncation

MAX_SHORTLIST = 128


def draw_from_shortlist(
    logits: torch.Tensor, scale: torch.Tensor, uniforms: torch.Tensor, rows: Sequence[Truncation], unit: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token per row, exactly as from all of its weights.

    Args:
        logits: float32 [R, V] on the CPU. scale: temperatures, float32 [R]. uniforms: float64 [R].
        rows: with 1 <= top_k <= MAX_SHORTLIST, top_k < V.

    Returns:
        int64 [R] token ids, and bool [R], false where more tokens tie at the top_k-th than the list holds: such a
        row's token is void. The list is as if it ended there, so neither depends on the other rows.
    """
    counts = torch.tensor([row.top_k for row in rows])[:, None]
    longest = int(counts.max())
    values, ids = top_values(logits, longest + 1)
    own = torch.arange(longest)[None, :] < counts
    complete = (values.gather(1, counts - 1) > values.gather(1, counts))[:, 0]
    weights = (values[:, :longest] - values[:, :1]).div_(scale[:, None]).exp_().mul_(unit).floor_()
    least = torch.tensor([row.min_p * unit for row in rows], dtype=torch.float32)[:, None]
    weights.mul_(own & (weights >= least))
    mass = torch.tensor([row.top_p for row in rows], dtype=torch.float64)[:, None]
    reached = weights.cumsum(dim=-1, dtype=torch.float64)
    last = (reached < mass * reached[:, -1:]).sum(dim=-1, keepdim=True).clamp_(max=longest - 1)
    nucleus = weights >= weights.gather(1, last)
    weights.mul_(nucleus | (mass >= 1.0))
    # Drawn in the order of token ids, as from the whole vocabulary.
    order = ids[:, :longest].sort(dim=-1)
    drawn = draw(weights.gather(1, order.indices), uniforms)
    return order.values.gather(1, drawn[:, None])[:, 0], complete
