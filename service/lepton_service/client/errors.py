"""gRPC status as typed exceptions."""

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """A field at fault: its path in the request, and the value found and what is allowed."""

    field: str
    description: str


class LeptonClientError(Exception):
    """A call that failed.

    Attributes:
        code: the gRPC status.
        message: one sentence.
        reason: the ErrorReason's name without its prefix (`QUEUE_FULL`); empty when the server did not say.
        violations: fields at fault.
        retry_after: seconds after which the same call may succeed; None when the server did not say.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = violations
        self.retry_after = retry_after


class InvalidArgumentError(LeptonClientError):
    """INVALID_ARGUMENT, FAILED_PRECONDITION or ALREADY_EXISTS: the request cannot be run as it stands."""


class UnsupportedError(InvalidArgumentError):
    """UNIMPLEMENTED: the server does not support the method or a field."""


class NotFoundError(LeptonClientError):
    """NOT_FOUND: no such model or adapter."""


class PermissionError(LeptonClientError):
    """UNAUTHENTICATED or PERMISSION_DENIED."""


class ResourceExhaustedError(LeptonClientError):
    """RESOURCE_EXHAUSTED: the queue is full, or a message is over the limit."""


class UnavailableError(LeptonClientError):
    """UNAVAILABLE: no server, a model that still loads, or an engine that has ended."""


class DeadlineExceededError(LeptonClientError):
    """DEADLINE_EXCEEDED."""


class CancelledError(LeptonClientError):
    """CANCELLED."""


class InternalError(LeptonClientError):
    """Any other status: a fault of the server or of the connection."""


_CLASSES: dict[grpc.StatusCode, type[LeptonClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidArgumentError,
    grpc.StatusCode.ALREADY_EXISTS: InvalidArgumentError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CancelledError,
}


def from_rpc_error(error: grpc.RpcError) -> LeptonClientError:
    """The typed form of what gRPC raised."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return InternalError(grpc.StatusCode.UNKNOWN, str(error))
    code = error.code()
    kind = _CLASSES.get(code, InternalError)
    reason = ""
    violations: list[FieldViolation] = []
    retry_after = None
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        for detail in _details(value):
            if isinstance(detail, ErrorInfo):
                reason = detail.reason
            elif isinstance(detail, BadRequest):
                violations.extend(FieldViolation(v.field, v.description) for v in detail.field_violations)
            elif isinstance(detail, RetryInfo):
                retry_after = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
    return kind(code, error.details() or "", reason=reason, violations=tuple(violations), retry_after=retry_after)


def _details(value: bytes) -> list[ErrorInfo | BadRequest | RetryInfo]:
    """The details of a status that are known here; a trailer that is no status has none."""
    try:
        status = Status.FromString(value)
    except DecodeError:
        return []
    found = []
    for packed in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                found.append(kind.FromString(packed.value))
    return found
