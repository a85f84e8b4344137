"""Which signed tokens are accepted."""

from dataclasses import dataclass
from pathlib import Path

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Signatures that a public key verifies. With the others, who can verify could sign, or nobody need sign at all."""

LEEWAY_SECONDS = 30.0


@dataclass(frozen=True)
class JWTOptions:
    """Which JSON Web Tokens are accepted.

    Attributes:
        jwks: file with the issuer's public keys (RFC 7517).
        issuer: what `iss` must be. audiences: one of them must be in `aud`.
        tenant_claim: the claim that names the tenant.
        algorithms: of those above. leeway: seconds that clocks may differ.
    """

    jwks: Path
    issuer: str
    audiences: tuple[str, ...]
    tenant_claim: str = "sub"
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway: float = LEEWAY_SECONDS
