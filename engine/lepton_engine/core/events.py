"""What the engine tells about its requests, step by step; plain structures that cross processes as they are."""

import msgspec

from lepton_engine.errors import AdmissionError, LeptonError, error_of


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True):
    """Natural log-probabilities at one position: of its token, and of the most likely ones, best first."""

    logprob: float
    rank: int
    top_ids: list[int]
    top_logprobs: list[float]


class Started(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A request runs for the first time. scheduled_time is in seconds since the epoch."""

    key: str
    num_cached_tokens: int
    scheduled_time: float


class NewTokens(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Tokens of one sequence, its end, or both.

    Attributes:
        finish_reason: None while it runs; "stop", "length", "time_limit" or "abort".
        stop_reason: the stop token that was met, unless it is the end-of-sequence token.
        time: of the step's results, in seconds since the epoch.
    """

    key: str
    index: int
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    finish_reason: str | None = None
    stop_reason: int | None = None
    time: float = 0.0


class PromptScores(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Log-probabilities of the prompt's tokens from position `start` on; a preempted prompt is told again."""

    key: str
    start: int
    entries: list[TokenLogprobs]


class Preempted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A sequence of a request has lost its blocks to others. time is in seconds since the epoch."""

    key: str
    time: float


class Spent(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Joules that a request has taken so far; the last one comes before its last tokens."""

    key: str
    joules: float


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A request has ended without success.

    Attributes:
        kind: name of a class in `lepton_engine.errors`.
        retry_after, details: of an `AdmissionError`.
    """

    key: str
    kind: str
    message: str
    retry_after: float | None = None
    details: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, key: str, error: LeptonError) -> "Failed":
        """The event that tells of an error."""
        name = type(error).__name__
        if isinstance(error, AdmissionError):
            return cls(key, name, str(error), error.retry_after, error.details)
        return cls(key, name, str(error))

    def error(self) -> LeptonError:
        """The error as it was raised."""
        found = error_of(self.kind, self.message)
        if isinstance(found, AdmissionError):
            found.retry_after, found.details = self.retry_after, dict(self.details)
        return found


Event = Started | NewTokens | PromptScores | Preempted | Spent | Failed
