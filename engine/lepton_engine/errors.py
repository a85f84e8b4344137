"""The errors that the engine raises on purpose; every other exception is a bug."""


class LeptonError(Exception):
    """Base of all deliberate errors."""


class InvalidRequestError(LeptonError, ValueError):
    """A request that cannot be run as it stands.

    Attributes:
        field: the field at fault, as a dotted path (`sampling_params.top_p`, `prompt`).
        reason: the value found and what is allowed.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class UnsupportedError(InvalidRequestError):
    """An option that exists by name but that this build does not provide; never ignored silently."""


class ModelLoadError(LeptonError):
    """A checkpoint that cannot be loaded: missing or damaged files, wrong shapes, fields of the wrong type."""


class UnsupportedModelError(ModelLoadError):
    """A checkpoint that this engine cannot run faithfully; the message says which feature is missing."""


class OutOfMemoryError(LeptonError):
    """The weights, or the KV cache that a single sequence needs, do not fit the memory that is allowed."""


class QueueFullError(LeptonError):
    """Admission refused: the queue holds its maximum of requests or tokens.

    Attributes:
        retry_after: seconds after which a slot is expected, from the measured drain rate; None when unknown.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RequestFailedError(LeptonError):
    """A request that was admitted and then failed alone (NaN logits, a crashed step); the others went on."""


class DeadlineExceededError(LeptonError):
    """A request whose deadline passed before it finished; its KV blocks are released."""


class EngineDeadError(LeptonError):
    """The engine process has ended or its loop has failed; no request can run any more."""
