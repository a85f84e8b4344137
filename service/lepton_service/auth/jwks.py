"""The issuer's public keys, from a file (RFC 7517)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from lepton_service.auth.errors import AuthConfigError

MIN_RSA_BITS = 2048

_FAMILIES = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k"}


@dataclass(frozen=True)
class VerificationKey:
    """A public key.

    Attributes:
        kid: its name; empty without one. key: as `cryptography` has it.
        algorithms: what it verifies; a token's own word on that is not taken.
    """

    kid: str
    key: Any
    algorithms: tuple[str, ...]


def parse(data: bytes) -> tuple[VerificationKey, ...]:
    """The keys of a JWKS. Those for other uses than signatures, and of kinds that are not known, are left out.

    Raises:
        AuthConfigError: it is none, has a secret in it, or no key that can be used.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AuthConfigError("is no JSON") from error
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise AuthConfigError('is no JWKS: an object with a list "keys" of objects is required')
    found = [key for number, given in enumerate(keys) if (key := _key(f"keys[{number}]", given)) is not None]
    if not found:
        raise AuthConfigError("has no public key that can verify signatures (RSA, EC P-256/384/521, Ed25519, Ed448)")
    names = [key.kid for key in found if key.kid]
    for name in names:
        if names.count(name) > 1:
            raise AuthConfigError(f"has two keys with the kid {name[:100]!r}")
    return tuple(found)


def _key(path: str, given: Mapping[str, Any]) -> VerificationKey | None:
    if given.get("kty") == "oct" or _PRIVATE & given.keys():
        raise AuthConfigError(f"{path} holds a secret; only public keys belong there")
    if given.get("use", "sig") != "sig" or "verify" not in given.get("key_ops", ["verify"]):
        return None
    kind = str(given.get("kty", ""))
    algorithms = _FAMILIES.get((kind, "" if kind == "RSA" else str(given.get("crv", ""))), ())
    if "alg" in given:
        algorithms = tuple(name for name in algorithms if name == given["alg"])
    if not algorithms:
        return None
    kid = given.get("kid", "")
    if not isinstance(kid, str):
        raise AuthConfigError(f"{path}.kid is no text")
    try:
        key: Any = jwt.PyJWK(dict(given), algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise AuthConfigError(f"{path} is no valid {kind} key") from error
    if kind == "RSA" and key.key_size < MIN_RSA_BITS:
        raise AuthConfigError(f"{path} has {key.key_size} bits, at least {MIN_RSA_BITS} are required")
    return VerificationKey(kid, key, algorithms)
