"""Log-probabilities of the prompt's own tokens, in chunks of rows so that memory stays bounded."""

from collections.abc import Callable

import torch

from lepton_engine.core.events import TokenLogprobs
from lepton_engine.core.plan import ScheduledSequence
from lepton_engine.runtime.selection import top_values

CHUNK_BYTES = 32 << 20


def score_prompt(
    entry: ScheduledSequence,
    hidden: torch.Tensor,
    logits: Callable[[torch.Tensor], torch.Tensor],
    vocab_size: int,
) -> tuple[int, list[TokenLogprobs]] | None:
    """Score the prompt tokens that the entry's positions predict.

    Args:
        hidden: [num_tokens, hidden_size] of the entry's tokens.
        logits: hidden states [rows, hidden_size] -> float32 [rows, vocab_size].

    Returns:
        The position of the first scored token and the entries from there on; None when there is none.
    """
    sequence = entry.sequence
    first = entry.start + 1
    last = min(entry.start + entry.num_tokens, sequence.num_prompt - 1)
    if last < first:
        return None
    targets = torch.tensor(sequence.token_ids[first : last + 1], device=hidden.device)
    top = sequence.request.params.prompt_logprobs or 0
    rows = max(1, CHUNK_BYTES // (4 * vocab_size))
    entries: list[TokenLogprobs] = []
    for start in range(0, len(targets), rows):
        chunk = targets[start : start + rows]
        scores = torch.log_softmax(logits(hidden[start : start + len(chunk)]), dim=-1)
        chosen = scores.gather(1, chunk[:, None])
        ranks = (scores > chosen).sum(dim=-1) + 1
        values, indices = top_values(scores, top)
        entries.extend(map(TokenLogprobs, chosen[:, 0].tolist(), ranks.tolist(), indices.tolist(), values.tolist()))
    return first, entries
