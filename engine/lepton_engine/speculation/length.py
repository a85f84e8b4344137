"""How long a draft is worth: what was accepted before against what one more position costs."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from lepton_engine.core.request import Sequence

PRIOR_RATE = 0.7
PRIOR_TRIALS = 4.0
MEMORY = 0.9  # Weight that a sequence's past keeps at each of its verified drafts.
OVERALL_MEMORY = 0.98  # The same for the past of all sequences, from which a new one starts.
FIRST_PROBE, LAST_PROBE = 16, 256  # Steps until a sequence that has stopped drafting tries one token again; doubling.
ROW_COST = 1 / 16  # A row more in a step against the step itself, which mostly reads weights.


@dataclass
class Record:
    """What a sequence's drafts have come to, older ones counting less."""

    accepted: float = PRIOR_RATE * PRIOR_TRIALS
    trials: float = PRIOR_TRIALS
    seen_drafted: int = 0
    seen_accepted: int = 0
    quiet: int = 0
    patience: int = FIRST_PROBE

    def update(self, drafted: int, accepted: int) -> tuple[int, int]:
        """Take in a sequence's totals; the draft tokens accepted and tried since the last time.

        The first token of a draft that fails hides those behind it.
        """
        new, good = drafted - self.seen_drafted, accepted - self.seen_accepted
        self.seen_drafted, self.seen_accepted = drafted, accepted
        tried = good + (good < new)
        if tried:
            self.count(good, tried, MEMORY)
        return good, tried

    def count(self, accepted: int, tried: int, memory: float) -> None:
        """Add trials, those before them at the weight `memory`."""
        self.accepted = memory * self.accepted + accepted
        self.trials = memory * self.trials + tried

    @property
    def rate(self) -> float:
        """The chance that a draft token comes true when those before it did."""
        return self.accepted / self.trials


def best_length(rate: float, most: int, row_cost: float) -> int:
    """The length that gives most tokens for its time: (1 + rate + ... + rate^k) tokens for 1 + k * row_cost steps."""
    best, gain, tokens, share = 0, 1.0, 1.0, 1.0
    for length in range(1, most + 1):
        share *= rate
        tokens += share
        if tokens / (1 + length * row_cost) > gain:
            best, gain = length, tokens / (1 + length * row_cost)
    return best


class DraftLengths:
    """Chooses the length of each sequence's next draft.

    Args:
        most: the longest draft. proposal_cost: time of proposing one token against that of a step.
    """

    def __init__(self, most: int, proposal_cost: float = 0.0) -> None:
        self._most = most
        self._proposal_cost = proposal_cost
        self._overall = Record()
        self._records: WeakKeyDictionary[Sequence, Record] = WeakKeyDictionary()

    def choose(self, sequences: list[Sequence]) -> list[int]:
        """The length for each of the sequences of one step. The more they are, the dearer a row for all of them."""
        share = ROW_COST * len(sequences)
        cost = share / (1 + share) + self._proposal_cost
        return [self._length(sequence, cost) for sequence in sequences]

    def _length(self, sequence: Sequence, cost: float) -> int:
        record = self._records.get(sequence)
        if record is None:
            record = self._records[sequence] = Record(accepted=self._overall.rate * PRIOR_TRIALS)
        good, tried = record.update(sequence.num_drafted, sequence.num_accepted)
        if tried:
            self._overall.count(good, tried, OVERALL_MEMORY)
        length = best_length(record.rate, self._most, cost)
        if length:
            record.quiet, record.patience = 0, FIRST_PROBE
            return length
        record.quiet += 1
        if record.quiet < record.patience:
            return 0
        record.quiet, record.patience = 0, min(2 * record.patience, LAST_PROBE)
        return 1
