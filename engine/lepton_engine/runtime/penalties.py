"""Penalties on tokens that have occurred: repetition (CTRL, arXiv:1909.05858), presence and frequency."""

from collections.abc import Sequence

import numpy as np
import torch

from lepton_engine.runtime.row import SampleRow
from lepton_engine.runtime.transfer import to_device


class TokenHistory:
    """The distinct tokens of one sequence and how often each was generated; grows with the sequence.

    Attributes:
        seed, prompt: what tells the sequence from others that may get its slot later.
    """

    def __init__(self, seed: int, prompt: Sequence[int]) -> None:
        self.seed = seed
        self.prompt = prompt
        self._seen = 0
        distinct = np.unique(np.asarray(prompt, dtype=np.int64))
        self._size = len(distinct)
        self._place = {token: place for place, token in enumerate(distinct.tolist())}
        self._ids = distinct
        self._counts = np.zeros(self._size, dtype=np.float32)

    def covers(self, row: SampleRow) -> bool:
        """Whether this is the history of the row's sequence, as of now or earlier."""
        return self.seed == row.seed and self.prompt is row.prompt_ids and self._seen <= len(row.output_ids)

    def update(self, output: Sequence[int]) -> None:
        """Take in the tokens generated since the last call."""
        for token in output[self._seen :]:
            place = self._place.setdefault(token, self._size)
            if place == self._size:
                if self._size == len(self._ids):
                    room = max(64, self._size)
                    self._ids = np.concatenate([self._ids, np.zeros(room, dtype=np.int64)])
                    self._counts = np.concatenate([self._counts, np.zeros(room, dtype=np.float32)])
                self._ids[place] = token
                self._counts[place] = 0.0
                self._size += 1
            self._counts[place] += 1.0
        self._seen = len(output)

    def tally(self, draft: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Distinct tokens of prompt and output, int64, and how often each was generated, float32.

        A token of the prompt alone counts 0. The tokens of a draft count as generated, but are not kept.
        """
        ids, counts = self._ids[: self._size], self._counts[: self._size]
        if not draft:
            return ids, counts
        new = [token for token in dict.fromkeys(draft) if token not in self._place]
        ids = np.concatenate([ids, np.array(new, dtype=np.int64)])
        counts = np.concatenate([counts, np.zeros(len(new), dtype=np.float32)])
        place = self._place | {token: self._size + i for i, token in enumerate(new)}
        for token in draft:
            counts[place[token]] += 1.0
        return ids, counts


class Penalties:
    """Applies penalties to the rows that have them; keeps one history per slot."""

    def __init__(self, max_num_seqs: int) -> None:
        self._histories: list[TokenHistory | None] = [None] * max_num_seqs

    @staticmethod
    def wanted(row: SampleRow) -> bool:
        """Whether the row has a penalty."""
        params = row.params
        return bool(params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0)

    def apply(self, logits: torch.Tensor, rows: Sequence[SampleRow]) -> None:
        """Penalise in place the rows of logits [R, V] that want it.

        Repetition divides positive logits and multiplies negative ones, for every token of prompt and output; then
        frequency times count, and presence, are subtracted for every generated token.
        """
        chosen = [(i, row) for i, row in enumerate(rows) if self.wanted(row)]
        if not chosen:
            return
        tallies = [self._history(row).tally(row.draft_ids) for _, row in chosen]
        lengths = [len(tokens) for tokens, _ in tallies]
        ids = np.concatenate([tokens for tokens, _ in tallies])
        counts = np.concatenate([numbers for _, numbers in tallies])
        per_row = np.array(
            [
                (row.params.repetition_penalty, row.params.frequency_penalty, row.params.presence_penalty)
                for _, row in chosen
            ],
            dtype=np.float32,
        )
        repetition, frequency, presence = np.repeat(per_row, lengths, axis=0).T
        factor = np.stack([repetition, counts * frequency + (counts > 0) * presence])
        place = np.stack([np.repeat(np.array([i for i, _ in chosen]), lengths), ids])
        row_index, token_index = to_device(torch.from_numpy(place), logits.device)
        scale, offset = to_device(torch.from_numpy(factor), logits.device)
        values = logits[row_index, token_index]
        values = torch.where(values > 0, values / scale, values * scale) - offset
        logits[row_index, token_index] = values

    def _history(self, row: SampleRow) -> TokenHistory:
        history = self._histories[row.slot]
        if history is None or not history.covers(row):
            history = self._histories[row.slot] = TokenHistory(row.seed, row.prompt_ids)
        history.update(row.output_ids)
        return history
