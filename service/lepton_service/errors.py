"""Refusals that the service itself decides. Engine errors pass as they are; converters.errors gives both a status."""

from lepton.v1.errors_pb2 import ErrorReason


class ServiceError(Exception):
    """Base of the service's refusals.

    Attributes:
        reason: the contract's name for it.
        message: one sentence for a person.
    """

    reason: ErrorReason.ValueType = ErrorReason.ERROR_REASON_INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidFieldError(ServiceError):
    """A field of the request whose value is not allowed.

    Attributes:
        field: its path in the request message (`sampling.top_p`).
        description: the value found and what is allowed.
    """

    reason = ErrorReason.ERROR_REASON_INVALID_FIELD

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class UnsupportedFieldError(InvalidFieldError):
    """A field of the contract that this server does not support."""

    reason = ErrorReason.ERROR_REASON_UNSUPPORTED_FIELD


class ContextLengthError(InvalidFieldError):
    """A prompt that does not fit the model's context."""

    reason = ErrorReason.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED


class ChatTemplateError(InvalidFieldError):
    """A conversation that the chat template refuses or fails on."""

    reason = ErrorReason.ERROR_REASON_CHAT_TEMPLATE_FAILED


class NoChatTemplateError(ServiceError):
    """A conversation for a model without a chat template."""

    reason = ErrorReason.ERROR_REASON_NO_CHAT_TEMPLATE


class ResourceNotFoundError(ServiceError):
    """A named model or adapter that is not served here.

    Attributes:
        kind: `model` or `adapter`. name: what was asked for.
    """

    def __init__(self, kind: str, name: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.reason = (
            ErrorReason.ERROR_REASON_MODEL_NOT_FOUND if kind == "model" else ErrorReason.ERROR_REASON_ADAPTER_NOT_FOUND
        )


class RequestIdInUseError(ServiceError):
    """A request whose id is in flight already."""

    reason = ErrorReason.ERROR_REASON_REQUEST_ID_IN_USE


class ModelLoadingError(ServiceError):
    """The model is still loading.

    Attributes:
        retry_after: seconds after which to try again.
    """

    reason = ErrorReason.ERROR_REASON_MODEL_LOADING

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineUnavailableError(ServiceError):
    """The engine has ended.

    Attributes:
        retry_after: seconds after which to try again.
    """

    reason = ErrorReason.ERROR_REASON_ENGINE_UNAVAILABLE

    def __init__(self, message: str, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
