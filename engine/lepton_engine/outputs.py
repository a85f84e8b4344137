"""What a request gives back, under the names that vLLM's users know."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple


class Logprob(NamedTuple):
    """The natural log-probability of one token at one position and its rank there (1 is the most likely)."""

    logprob: float
    rank: int


Logprobs = dict[int, Logprob]


@dataclass
class RequestMetrics:
    """Times of a request in seconds since the epoch; None until it has come that far.

    Attributes:
        preemption_times: when it lost its KV blocks to others, to be computed again.
        joules: energy that was spent for it (`lepton_engine.energy.ledger`); None where it is not measured.
    """

    arrival_time: float
    first_scheduled_time: float | None = None
    first_token_time: float | None = None
    finished_time: float | None = None
    preemption_times: tuple[float, ...] = ()
    joules: float | None = None

    @property
    def num_preemptions(self) -> int:
        """How often it lost its KV blocks."""
        return len(self.preemption_times)


@dataclass
class CompletionOutput:
    """One sampled continuation.

    With `OutputKind.DELTA`, text, token_ids and logprobs hold only what is new.

    Attributes:
        index: which of the request's n sequences this is.
        finish_reason: None while it runs; "stop", "length", "time_limit", "abort" or "error" after.
        stop_reason: the stop text or stop token id that was met; None for the end-of-sequence token.
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Logprobs] | None = None
    cumulative_logprob: float | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    @property
    def finished(self) -> bool:
        """Whether no more tokens will come."""
        return self.finish_reason is not None


@dataclass
class RequestOutput:
    """The state of a request, or the news of it.

    Attributes:
        prompt_token_ids: the tokenised prompt.
        prompt_logprobs: one entry per prompt token, None for the first; None unless asked for.
        num_cached_tokens: prompt tokens whose KV cache was found rather than computed.
        seed: the seed in force, given or drawn.
        finished: whether every sequence of the request has ended.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int = 0
    seed: int = 0
    prompt_logprobs: list[Logprobs | None] | None = None
    metrics: RequestMetrics | None = None


@dataclass
class ScoreOutput:
    """How likely a model finds a text.

    Attributes:
        token_logprobs: natural log-probability of each token given those before it; None for the first.
        top_logprobs: the tokens and alternatives at each position; None for the first.
        metrics: times of the request.
    """

    request_id: str
    prompt_token_ids: list[int]
    token_logprobs: list[float | None]
    top_logprobs: list[Logprobs | None]
    metrics: RequestMetrics | None = None

    @classmethod
    def of(cls, output: RequestOutput) -> "ScoreOutput":
        """From the output of a request that scored its prompt."""
        ids = output.prompt_token_ids
        top = output.prompt_logprobs or [None] * len(ids)
        logprobs = [None if entry is None else entry[token].logprob for token, entry in zip(ids, top, strict=True)]
        return cls(output.request_id, ids, logprobs, top, output.metrics)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean negative log-probability of all tokens but the first; None for a single token."""
        known = [logprob for logprob in self.token_logprobs if logprob is not None]
        return math.exp(-sum(known) / len(known)) if known else None
