"""What the sampler is told of a row of logits."""

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_engine.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One token to be sampled.

    Attributes:
        seed: of the sequence. position: tokens that it has generated so far; with the seed it fixes the random number.
        slot: of the sequence in the runner, below max_num_seqs.
        prompt_ids: the prompt, the same object at every step. output_ids: the generated tokens, read only if there are
            penalties or bad words.
        draft_ids: unconfirmed tokens that are assumed to follow output_ids.
        stop_token_ids: tokens that cannot be sampled before params.min_tokens tokens have been.
        bad_word_ids: token sequences that are never completed.
    """

    params: SamplingParams
    seed: int
    position: int
    slot: int
    prompt_ids: Sequence[int]
    output_ids: Sequence[int] = ()
    stop_token_ids: Sequence[int] = ()
    bad_word_ids: Sequence[tuple[int, ...]] = ()
    draft_ids: Sequence[int] = ()
