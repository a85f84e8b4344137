"""What one step computes: the scheduler's answer and the runner's task."""

from dataclasses import dataclass, field

from lepton_engine.core.events import TokenLogprobs
from lepton_engine.core.kv_cache import BlockCopy
from lepton_engine.core.request import Sequence


@dataclass(frozen=True)
class ScheduledSequence:
    """The tokens start to start + num_tokens of a sequence; the last may still be on the device, in its slot.

    Attributes:
        scores_prompt: whether log-probabilities of the prompt's tokens are asked of these positions.
        draft: tokens that are assumed to follow those of the sequence, unconfirmed; the last num_tokens may be of them.
    """

    sequence: Sequence
    start: int
    num_tokens: int
    scores_prompt: bool = False
    draft: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A token to be sampled for `sequence` in the plan's entry `row`, behind the first `offset` tokens of its draft."""

    row: int
    sequence: Sequence
    offset: int = 0


@dataclass
class StepPlan:
    """A step: block copies first, then one forward pass over all scheduled tokens, then the samples."""

    scheduled: list[ScheduledSequence] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    copies: list[BlockCopy] = field(default_factory=list)
    num_tokens: int = 0


@dataclass(frozen=True)
class StepResult:
    """What a step has computed, on the host.

    Attributes:
        token_ids: one per sample of the plan. invalid: whether the sample's logits allowed none (NaN, all masked).
        logprobs: one per sample, None where not asked for.
        prompt_scores: plan entry -> (position of the first scored token, its and the following entries).
    """

    token_ids: list[int]
    invalid: list[bool]
    logprobs: list[TokenLogprobs | None]
    prompt_scores: dict[int, tuple[int, list[TokenLogprobs]]] = field(default_factory=dict)
