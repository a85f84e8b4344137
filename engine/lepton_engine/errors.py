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


class AdmissionError(LeptonError):
    """A request that is refused for load or a limit before it has begun; nothing was computed for it.

    Attributes:
        retry_after: seconds after which the same request is expected to be admitted; None when waiting does not help.
        details: figures behind the refusal, by name.
    """

    def __init__(self, reason: str, retry_after: float | None = None, details: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.details = details or {}


class QueueFullError(AdmissionError):
    """The queue holds its maximum of requests or tokens."""


class QueueTimeoutError(AdmissionError):
    """The request waited for longer than it may, and had not begun to run."""


class DeadlineUnattainableError(AdmissionError):
    """At the measured speed the deadline would pass before the request could succeed."""


class TenantLimitError(AdmissionError):
    """A limit of the request's tenant; what others do has no part in it."""


class TenantConcurrencyError(TenantLimitError):
    """The tenant has its maximum of requests in flight."""


class TenantQueueFullError(TenantLimitError):
    """The tenant has its maximum of requests waiting."""


class TenantTokenRateError(TenantLimitError):
    """The tenant has used up its tokens per minute."""


class RequestFailedError(LeptonError):
    """A request that was admitted and then failed alone (NaN logits, a crashed step); the others went on."""


class RequestIdInUseError(LeptonError):
    """A request whose name another one of its tenant, perhaps at another front end, has while it runs."""


class DeadlineExceededError(LeptonError):
    """A request whose deadline passed before it finished; its KV blocks are released."""


class SlowReaderError(LeptonError):
    """A request that was ended because too much of its output was left unread."""


class EngineDeadError(LeptonError):
    """The engine process has ended or its loop has failed; no request can run any more."""


def error_of(kind: str, message: str) -> LeptonError:
    """The error of a class that is named; its fields beyond the message are left as they are by default."""
    found = globals().get(kind)
    if not isinstance(found, type) or not issubclass(found, LeptonError):
        return LeptonError(message)
    if issubclass(found, InvalidRequestError):
        field, _, reason = message.partition(": ")
        return found(field, reason)
    return found(message)
