"""Which tokens of a verified draft are kept.

Each position is sampled by the model's own sampler, with the random number that belongs to (seed, position), given the
draft's tokens before it. A draft token is accepted when it is the very token that was sampled there; the first one
that is not ends the run and the sampled token stands in its place. So the output is, token by token, what sampling one
position a step gives. For a draft that is fixed this is the rejection rule of Leviathan et al. (arXiv:2211.17192): it
accepts with the probability that the model gives the token and draws from the rest otherwise.
"""

from collections.abc import Sequence as Row
from dataclasses import dataclass

from lepton_engine.core.request import Sequence


@dataclass(frozen=True)
class Confirmed:
    """What a step has added to a sequence.

    Attributes:
        count: tokens added. accepted: how many of them the draft had foretold.
        reason, stop: as `Sequence.ending` has them. invalid: whether the row behind them allowed no token.
    """

    count: int
    accepted: int
    reason: str | None
    stop: int | None
    invalid: bool


def confirm(sequence: Sequence, draft: Row[int], token_ids: Row[int], invalid: Row[bool], longest: int) -> Confirmed:
    """Add to a sequence the sampled tokens up to the first that the draft had not foretold, or up to its end.

    Args:
        token_ids, invalid: of the rows behind the sequence's last token and behind each token of the draft.
        longest: tokens that a sequence may have.
    """
    accepted = 0
    for count, token in enumerate(token_ids):
        if invalid[count]:
            return Confirmed(count, accepted, None, None, True)
        sequence.token_ids.append(token)
        foretold = count < len(draft) and draft[count] == token
        accepted += foretold
        reason, stop = sequence.ending(longest)
        if reason is not None or not foretold:
            return Confirmed(count + 1, accepted, reason, stop, False)
    raise ValueError("a step samples one token more than its draft has")
