"""Drafts for the sequences of the next step: a length for each, then a proposal."""

from lepton_engine.core.request import Sequence
from lepton_engine.speculation.length import DraftLengths
from lepton_engine.speculation.proposer import Proposer


class Speculator:
    """A proposer, asked for drafts that are as long as they are worth.

    Args:
        most: tokens of the longest draft. proposal_cost: time of proposing one token against that of a step.
    """

    def __init__(self, proposer: Proposer, most: int, proposal_cost: float = 0.0) -> None:
        self._proposer = proposer
        self._lengths = DraftLengths(most, proposal_cost)

    def draft(self, wanted: list[tuple[Sequence, int]]) -> None:
        """Set the `draft` of sequences, each of at most so many tokens, cut where their grammars forbid one."""
        lengths = self._lengths.choose([sequence for sequence, _ in wanted])
        asked = [
            (sequence, min(most, length))
            for (sequence, most), length in zip(wanted, lengths, strict=True)
            if min(most, length) > 0
        ]
        for (sequence, _), tokens in zip(asked, self._proposer.propose(asked), strict=True):
            matcher = sequence.matcher
            sequence.draft = tuple(tokens if matcher is None else tokens[: matcher.accepted(tokens)])
