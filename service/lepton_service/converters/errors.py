"""Errors to gRPC status with google.rpc details, as lepton/v1/errors.proto describes them."""

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

from lepton.v1.errors_pb2 import ErrorReason
from lepton_engine.errors import (
    AdmissionError,
    DeadlineExceededError,
    DeadlineUnattainableError,
    EngineDeadError,
    InvalidRequestError,
    QueueFullError,
    QueueTimeoutError,
    RequestFailedError,
    RequestIdInUseError,
    SlowReaderError,
    TenantConcurrencyError,
    TenantQueueFullError,
    TenantTokenRateError,
    UnsupportedError,
)
from lepton_service import errors
from lepton_service.auth.errors import CHALLENGE_KEY, AuthenticationError
from lepton_service.converters.durations import to_duration
from lepton_service.converters.fields import proto_path

DOMAIN = "lepton.dev"
PREFIX = "ERROR_REASON_"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
RETRY_WHEN_UNKNOWN_SECONDS = 1.0
# Status and details travel as trailers, which a client limits to 8 KiB: what a request holds is not repeated whole.
MAX_TEXT_BYTES = 500

_RETRIED = (grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])

_CODES: dict[ErrorReason.ValueType, grpc.StatusCode] = {
    ErrorReason.ERROR_REASON_INVALID_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_UNSUPPORTED_FIELD: grpc.StatusCode.UNIMPLEMENTED,
    ErrorReason.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_CHAT_TEMPLATE_FAILED: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_NO_CHAT_TEMPLATE: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorReason.ERROR_REASON_ADAPTER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorReason.ERROR_REASON_REQUEST_ID_IN_USE: grpc.StatusCode.ALREADY_EXISTS,
    ErrorReason.ERROR_REASON_QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorReason.ERROR_REASON_MODEL_LOADING: grpc.StatusCode.UNAVAILABLE,
    ErrorReason.ERROR_REASON_ENGINE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorReason.ERROR_REASON_REQUEST_FAILED: grpc.StatusCode.INTERNAL,
    ErrorReason.ERROR_REASON_INTERNAL: grpc.StatusCode.INTERNAL,
    ErrorReason.ERROR_REASON_OUTPUT_UNREAD: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_QUEUE_TIMEOUT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_TENANT_CONCURRENCY_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_TENANT_QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_TENANT_TOKEN_RATE_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_DEADLINE_UNATTAINABLE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_CREDENTIAL_MISSING: grpc.StatusCode.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_CREDENTIAL_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_CREDENTIAL_EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_TENANT_NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
}

# Why the engine has refused a request; the most general last.
_REFUSALS: tuple[tuple[type[AdmissionError], ErrorReason.ValueType], ...] = (
    (QueueTimeoutError, ErrorReason.ERROR_REASON_QUEUE_TIMEOUT),
    (DeadlineUnattainableError, ErrorReason.ERROR_REASON_DEADLINE_UNATTAINABLE),
    (TenantConcurrencyError, ErrorReason.ERROR_REASON_TENANT_CONCURRENCY_EXCEEDED),
    (TenantQueueFullError, ErrorReason.ERROR_REASON_TENANT_QUEUE_FULL),
    (TenantTokenRateError, ErrorReason.ERROR_REASON_TENANT_TOKEN_RATE_EXCEEDED),
    (AdmissionError, ErrorReason.ERROR_REASON_QUEUE_FULL),
)


def code_of(status: Status) -> grpc.StatusCode:
    """The grpc code of a status message."""
    return next(code for code in grpc.StatusCode if code.value[0] == status.code)


def to_status(error: Exception) -> Status:
    """The status of an error. One that is not deliberate becomes INTERNAL without its text, which may hold a prompt."""
    if isinstance(error, errors.ServiceError):
        return _service_status(error)
    if isinstance(error, UnsupportedError):
        field = proto_path(error.field)
        return _service_status(errors.UnsupportedFieldError(field, error.reason))
    if isinstance(error, InvalidRequestError):
        return _service_status(errors.InvalidFieldError(proto_path(error.field), error.reason))
    if isinstance(error, AdmissionError):
        return _refusal_status(error)
    if isinstance(error, DeadlineExceededError):
        return _status(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, str(error))
    if isinstance(error, EngineDeadError):
        return _status(ErrorReason.ERROR_REASON_ENGINE_UNAVAILABLE, str(error), _retry(5.0))
    if isinstance(error, RequestIdInUseError):
        return _status(ErrorReason.ERROR_REASON_REQUEST_ID_IN_USE, str(error))
    if isinstance(error, SlowReaderError):
        return _status(ErrorReason.ERROR_REASON_OUTPUT_UNREAD, str(error))
    if isinstance(error, RequestFailedError):
        return _status(ErrorReason.ERROR_REASON_REQUEST_FAILED, str(error))
    return _status(ErrorReason.ERROR_REASON_INTERNAL, f"internal error ({type(error).__name__}); see the server's log")


def pushback(status: Status) -> tuple[tuple[str, str], ...]:
    """The trailer by which gRPC's own retries wait as RetryInfo asks, or do not happen at all where it is missing.

    Only the statuses that the published service config retries have one (gRFC A6).
    """
    if status.code not in _RETRIED:
        return ()
    for detail in status.details:
        info = RetryInfo()
        if detail.Unpack(info):
            return ((PUSHBACK_KEY, str(info.retry_delay.ToMilliseconds())),)
    return ((PUSHBACK_KEY, "-1"),)


def _refusal_status(error: AdmissionError) -> Status:
    reason = next(reason for kind, reason in _REFUSALS if isinstance(error, kind))
    delay = error.retry_after
    if delay is None and isinstance(error, QueueFullError):
        delay = RETRY_WHEN_UNKNOWN_SECONDS
    details = [] if delay is None else [_retry(delay)]
    return _status(reason, str(error), *details, metadata=error.details)


def _service_status(error: errors.ServiceError) -> Status:
    details: list[Message] = []
    metadata: dict[str, str] = {}
    if isinstance(error, errors.InvalidFieldError):
        violation = BadRequest.FieldViolation(field=_cut(error.field), description=_cut(error.description))
        details.append(BadRequest(field_violations=[violation]))
        metadata["field"] = _cut(error.field)
    if isinstance(error, errors.ResourceNotFoundError):
        details.append(
            ResourceInfo(resource_type=error.kind, resource_name=_cut(error.name), description=_cut(error.message))
        )
        metadata[error.kind] = _cut(error.name)
    if isinstance(error, AuthenticationError):
        metadata[CHALLENGE_KEY] = error.challenge
    if isinstance(error, errors.ModelLoadingError | errors.EngineUnavailableError):
        details.append(_retry(error.retry_after))
    return _status(error.reason, error.message, *details, metadata=metadata)


def _retry(delay: float) -> RetryInfo:
    return RetryInfo(retry_delay=to_duration(delay))


def _cut(text: str) -> str:
    data = text.encode()
    return text if len(data) <= MAX_TEXT_BYTES else data[:MAX_TEXT_BYTES].decode(errors="ignore") + "..."


def _status(
    reason: ErrorReason.ValueType, message: str, *details: Message, metadata: dict[str, str] | None = None
) -> Status:
    name = ErrorReason.Name(reason).removeprefix(PREFIX)
    info = ErrorInfo(reason=name, domain=DOMAIN, metadata=metadata or {})
    status = Status(code=_CODES[reason].value[0], message=_cut(message))
    for detail in (info, *details):
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
