"""Prompt lookup: the last tokens go on as they did where they stood before."""

from weakref import WeakKeyDictionary

from lepton_engine.core.request import Sequence


class NgramIndex:
    """Where each run of tokens of one sequence ended last, kept up as the sequence grows."""

    def __init__(self, longest: int, shortest: int) -> None:
        self._sizes = range(longest, shortest - 1, -1)
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def continuation(self, token_ids: list[int], limit: int) -> list[int]:
        """Up to limit tokens: what followed the longest run that the tokens end in, where it stood last before."""
        for end in range(self._indexed, len(token_ids)):
            for size in self._sizes:
                if size <= end:
                    self._ends[tuple(token_ids[end - size : end])] = end
        self._indexed = max(self._indexed, len(token_ids))
        for size in self._sizes:
            found = self._ends.get(tuple(token_ids[-size:])) if size < len(token_ids) else None
            if found is not None:
                # A repetition that reaches the end goes on into what has just been proposed.
                proposed: list[int] = []
                for place in range(found, found + limit):
                    left = place - len(token_ids)
                    proposed.append(token_ids[place] if left < 0 else proposed[left])
                return proposed
        return []


class NgramProposer:
    """Prompt lookup for many sequences.

    Args:
        longest, shortest: tokens that must match, the longest run tried first.
    """

    def __init__(self, longest: int, shortest: int) -> None:
        self._longest = longest
        self._shortest = shortest
        self._indices: WeakKeyDictionary[Sequence, NgramIndex] = WeakKeyDictionary()

    def propose(self, wanted: list[tuple[Sequence, int]]) -> list[list[int]]:
        """See `Proposer.propose`."""
        return [self._index(sequence).continuation(sequence.token_ids, limit) for sequence, limit in wanted]

    def _index(self, sequence: Sequence) -> NgramIndex:
        index = self._indices.get(sequence)
        if index is None:
            index = self._indices[sequence] = NgramIndex(self._longest, self._shortest)
        return index
