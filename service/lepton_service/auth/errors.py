"""Refusals of callers, and settings that cannot be used.

What a caller is told does not help it guess: of an invalid credential no part is named. `cause` is for the log.
"""

from lepton.v1.errors_pb2 import ErrorReason
from lepton_service.errors import ServiceError

CHALLENGE_KEY = "www-authenticate"


class AuthConfigError(Exception):
    """Settings or files of authentication that cannot be used; the message names the flag or file and the line."""


class AuthenticationError(ServiceError):
    """A caller that is refused.

    Attributes:
        cause: why exactly, for the server's log; never holds the credential.
        challenge: what is asked for, in the form of RFC 6750's WWW-Authenticate.
    """

    challenge = 'Bearer realm="lepton"'

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class CredentialMissingError(AuthenticationError):
    """A call without a credential."""

    reason = ErrorReason.ERROR_REASON_CREDENTIAL_MISSING

    def __init__(
        self, cause: str = "no credential", kind: str = "bearer token in the metadata `authorization`"
    ) -> None:
        super().__init__(f"this server asks for a {kind}", cause)


class CredentialInvalidError(AuthenticationError):
    """A credential that is not accepted."""

    reason = ErrorReason.ERROR_REASON_CREDENTIAL_INVALID
    challenge = 'Bearer realm="lepton", error="invalid_token"'

    def __init__(self, cause: str, message: str = "the credential is not valid here") -> None:
        super().__init__(message, cause)


class CredentialExpiredError(AuthenticationError):
    """A credential whose time has passed."""

    reason = ErrorReason.ERROR_REASON_CREDENTIAL_EXPIRED
    challenge = 'Bearer realm="lepton", error="invalid_token", error_description="expired"'

    def __init__(self, cause: str) -> None:
        super().__init__("the credential has expired", cause)


class TenantNotAllowedError(AuthenticationError):
    """A valid credential that does not stand for the tenant."""

    reason = ErrorReason.ERROR_REASON_TENANT_NOT_ALLOWED
    challenge = 'Bearer realm="lepton", error="insufficient_scope"'
