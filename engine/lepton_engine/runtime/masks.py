"""Biases and prohibitions: logit_bias, allowed_token_ids, bad words, stop tokens before min_tokens."""

from collections.abc import Sequence

import torch

from lepton_engine.runtime.row import SampleRow
from lepton_engine.runtime.transfer import to_device


def changes_logits(row: SampleRow) -> bool:
    """Whether the row has anything that `apply_masks` applies."""
    params = row.params
    return bool(
        params.logit_bias or params.allowed_token_ids is not None or row.bad_word_ids or _before_min_tokens(row)
    )


def apply_masks(logits: torch.Tensor, rows: Sequence[SampleRow]) -> None:
    """Add biases to logits [R, V] in place and set those of forbidden tokens to -inf."""
    _add_biases(logits, rows)
    _keep_allowed(logits, rows)
    places = [(i, token) for i, row in enumerate(rows) for token in forbidden_tokens(row)]
    if places:
        row_index, token_index = to_device(torch.tensor(places).T, logits.device)
        logits[row_index, token_index] = -torch.inf


def forbidden_tokens(row: SampleRow) -> set[int]:
    """Tokens that would complete a bad word, and stop tokens as long as min_tokens is not reached."""
    tokens = set(row.stop_token_ids) if _before_min_tokens(row) else set()
    if not row.bad_word_ids:
        return tokens
    longest = max(map(len, row.bad_word_ids)) - 1
    tail = [*row.output_ids[max(0, len(row.output_ids) - longest) :], *row.draft_ids]
    missing = longest - len(tail)
    if missing > 0:
        tail = [*row.prompt_ids[max(0, len(row.prompt_ids) - missing) :], *tail]
    for word in row.bad_word_ids:
        length = len(word) - 1
        if length <= len(tail) and tail[len(tail) - length :] == list(word[:-1]):
            tokens.add(word[-1])
    return tokens


def _before_min_tokens(row: SampleRow) -> bool:
    return row.position < row.params.min_tokens and bool(row.stop_token_ids)


def _add_biases(logits: torch.Tensor, rows: Sequence[SampleRow]) -> None:
    places, biases = [], []
    for i, row in enumerate(rows):
        for token, bias in (row.params.logit_bias or {}).items():
            places.append((i, token))
            biases.append(bias)
    if places:
        row_index, token_index = to_device(torch.tensor(places).T, logits.device)
        logits[row_index, token_index] += to_device(torch.tensor(biases, dtype=torch.float32), logits.device)


def _keep_allowed(logits: torch.Tensor, rows: Sequence[SampleRow]) -> None:
    for i, row in enumerate(rows):
        if row.params.allowed_token_ids is not None:
            allowed = to_device(torch.tensor(list(row.params.allowed_token_ids)), logits.device)
            kept = logits[i, allowed]
            logits[i].fill_(-torch.inf)
            logits[i, allowed] = kept
