"""Bearer tokens that an identity provider has signed (RFC 7519), held to the advice of RFC 8725."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from lepton_service.auth import jwks
from lepton_service.auth.errors import CredentialExpiredError, CredentialInvalidError, TenantNotAllowedError
from lepton_service.auth.files import WatchedFile
from lepton_service.auth.jwks import VerificationKey
from lepton_service.auth.jwt_options import JWTOptions
from lepton_service.auth.principal import MAX_NAME_LENGTH, Principal, is_name

UNKNOWN_KEY = "the credential is signed by a key that is not known here"


Keys = tuple[VerificationKey, ...]
MAX_VERIFIED = 1024


@dataclass(frozen=True)
class _Verified:
    """A token that was accepted: under which keys, until when in seconds since the epoch, and whose it is."""

    keys: Keys
    until: float
    principal: Principal


class JWTVerifier:
    """Verifies tokens against a file of keys and the settings.

    A signature takes a tenth of a millisecond or more, and a client sends the same token for minutes: those that were
    accepted are remembered until they expire or the keys change.

    Args:
        clock: seconds since the epoch, for what is remembered.

    Raises:
        AuthConfigError: the file cannot be used.
    """

    def __init__(self, options: JWTOptions, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        self._file = WatchedFile(options.jwks, "JWKS file", jwks.parse)
        self._verified: dict[bytes, _Verified] = {}

    def principal(self, token: str) -> Principal:
        """Who is named by a token.

        Raises:
            CredentialInvalidError, CredentialExpiredError, TenantNotAllowedError.
        """
        keys = self._file.current()
        mark = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(mark)
        if known is not None and known.keys is keys and self._clock() < known.until:
            return known.principal
        claims = self._claims(token, keys)
        principal = self._principal(claims)
        self._verified.pop(mark, None)
        if len(self._verified) >= MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[mark] = _Verified(keys, int(claims["exp"]) + self._options.leeway, principal)
        return principal

    def _claims(self, token: str, keys: Keys) -> dict[str, Any]:
        """What a token says, when it is valid."""
        options = self._options
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise CredentialInvalidError(f"no JWT: {str(error)[:200]!r}") from error
        key = self._key(header, keys)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[name for name in key.algorithms if name in options.algorithms],
                issuer=options.issuer,
                audience=options.audiences,
                leeway=options.leeway,
                options={"require": ["exp", "iss", "aud"], "verify_sub": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise CredentialExpiredError("an expired JWT") from error
        except jwt.ImmatureSignatureError as error:
            raise CredentialInvalidError("a JWT from the future", "the credential is not valid yet") from error
        except jwt.PyJWTError as error:
            raise CredentialInvalidError(f"a JWT: {str(error)[:200]!r}") from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise CredentialInvalidError(f"JWT: a claim cannot be read ({type(error).__name__})") from error
        return claims

    def _key(self, header: dict[str, Any], keys: Keys) -> VerificationKey:
        """The key that a token names, or the only one there is. Keys that the token brings along are not looked at."""
        kid = header.get("kid")
        if kid is None:
            if len(keys) > 1:
                raise CredentialInvalidError(f"a JWT without kid, and {self._options.jwks} has {len(keys)} keys")
            return keys[0]
        for key in keys:
            if key.kid == kid:
                return key
        known = ", ".join(key.kid[:40] or "(unnamed)" for key in keys[:10])
        cause = f"a JWT of the unknown kid {str(kid)[:100]!r}; {self._options.jwks} has {known}"
        raise CredentialInvalidError(cause, UNKNOWN_KEY)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        subject = claims.get("sub")
        name = subject if isinstance(subject, str) and is_name(subject) else "unnamed"
        claim = self._options.tenant_claim
        tenant = claims.get(claim)
        if tenant is None:
            raise TenantNotAllowedError("the credential names no tenant", f"a JWT of {name} without the claim {claim}")
        if not isinstance(tenant, str) or not is_name(tenant):
            raise TenantNotAllowedError(
                "the credential names no tenant",
                f"a JWT of {name} whose claim {claim} is not 1 to {MAX_NAME_LENGTH} printable ASCII characters",
            )
        return Principal(tenant, name)
