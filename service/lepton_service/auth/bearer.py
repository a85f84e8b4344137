"""The `authorization` of a call (RFC 6750)."""

import re
from typing import Protocol

from lepton_service.auth.errors import CredentialInvalidError, CredentialMissingError
from lepton_service.auth.principal import CertificateNames, Principal

MAX_TOKEN_LENGTH = 8192

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)


class Tokens(Protocol):
    """Tokens of one kind."""

    def principal(self, token: str) -> Principal:
        """Whose token it is. Raises AuthenticationError."""


class BearerAuthenticator:
    """Asks for a bearer token, an opaque one or a JWT.

    Args:
        opaque: None where none is accepted. signed: JWTs; None where none is accepted.
    """

    reads_certificate = False

    def __init__(self, opaque: Tokens | None, signed: Tokens | None) -> None:
        self._opaque = opaque
        self._signed = signed

    def authenticate(self, authorization: str | None, certificate: CertificateNames | None) -> Principal:
        """See Authenticator."""
        if not authorization:
            raise CredentialMissingError()
        match = _BEARER.fullmatch(authorization) if len(authorization) <= MAX_TOKEN_LENGTH else None
        if match is None:
            raise CredentialInvalidError(
                "a malformed authorization", "authorization: `Bearer` and one token of at most 8 KiB are required"
            )
        token = match[1]
        tokens = self._signed if self._opaque is None or (self._signed and token.count(".") == 2) else self._opaque
        assert tokens is not None, "one of the kinds is accepted"
        return tokens.principal(token)
