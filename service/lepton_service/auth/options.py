"""Settings of authentication and their flags."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from lepton_service.auth.authenticator import Authenticator
from lepton_service.auth.bearer import BearerAuthenticator
from lepton_service.auth.certificates import CertificateAuthenticator, CertificateTenant
from lepton_service.auth.errors import AuthConfigError
from lepton_service.auth.jwt_options import ALGORITHMS, LEEWAY_SECONDS, JWTOptions
from lepton_service.auth.tokens import TokenFile
from lepton_service.commands.arguments import seconds


@dataclass(frozen=True)
class AuthOptions:
    """What is asked of callers.

    Attributes:
        tokens: file of hashed bearer tokens. jwt: which signed tokens are accepted.
        certificate_tenant: the name in the client's certificate that is the tenant; not together with tokens.
    """

    tokens: Path | None = None
    jwt: JWTOptions | None = None
    certificate_tenant: CertificateTenant | None = None

    def authenticator(self) -> Authenticator:
        """What holds callers to it.

        Raises:
            AuthConfigError: a file or a package is missing or cannot be used.
        """
        if self.certificate_tenant is not None:
            return CertificateAuthenticator(self.certificate_tenant)
        signed = None
        if self.jwt is not None:
            try:
                from lepton_service.auth.json_web_tokens import JWTVerifier
            except ImportError as error:
                raise AuthConfigError(f"--auth-jwks needs PyJWT and cryptography: {error}") from error
            signed = JWTVerifier(self.jwt)
        return BearerAuthenticator(None if self.tokens is None else TokenFile(self.tokens), signed)


def add_auth_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of authentication; docs/security.md says what they promise."""
    group = parser.add_argument_group("who may call")
    group.add_argument(
        "--auth-tokens",
        type=Path,
        metavar="FILE",
        help="ask for a bearer token whose hash is in this file (`lepton token` makes both; read again when it "
        "changes; default: everyone may call)",
    )
    group.add_argument(
        "--auth-jwks",
        type=Path,
        metavar="FILE",
        help="ask for a JWT that a key of this JWKS has signed (read again when it changes)",
    )
    group.add_argument("--auth-issuer", metavar="ISS", help="the issuer of JWTs, with --auth-jwks")
    group.add_argument(
        "--auth-audience",
        action="append",
        metavar="AUD",
        help="the audience of JWTs, with --auth-jwks; may be repeated, one of them is enough",
    )
    group.add_argument("--auth-tenant-claim", metavar="CLAIM", help="claim that names the tenant (default: sub)")
    group.add_argument(
        "--auth-algorithms", metavar="NAMES", help=f"signatures accepted, by commas (default: {','.join(ALGORITHMS)})"
    )
    group.add_argument(
        "--auth-leeway",
        type=seconds,
        metavar="S",
        help=f"how far clocks may differ (default: {LEEWAY_SECONDS:g})",
    )
    group.add_argument(
        "--tls-tenant",
        choices=[part.value for part in CertificateTenant],
        help="the client certificate's common name (cn) or URI (uri) is the tenant; needs --tls-client-ca",
    )


def auth_options(args: argparse.Namespace) -> AuthOptions | None:
    """The settings from the command line; None where everyone may call.

    Raises:
        ValueError: flags that do not go together, or an algorithm that is not accepted.
    """
    signed = None
    if args.auth_jwks is not None:
        if not args.auth_issuer or not args.auth_audience or not all(args.auth_audience):
            raise ValueError("--auth-jwks needs --auth-issuer and --auth-audience")
        if args.auth_tenant_claim == "":
            raise ValueError("--auth-tenant-claim: a claim's name is required")
        signed = JWTOptions(
            args.auth_jwks,
            args.auth_issuer,
            tuple(args.auth_audience),
            args.auth_tenant_claim or JWTOptions.tenant_claim,
            ALGORITHMS if args.auth_algorithms is None else _algorithms(args.auth_algorithms),
            LEEWAY_SECONDS if args.auth_leeway is None else args.auth_leeway,
        )
    else:
        for name in ("issuer", "audience", "tenant_claim", "algorithms", "leeway"):
            if getattr(args, f"auth_{name}") is not None:
                raise ValueError(f"--auth-{name.replace('_', '-')} needs --auth-jwks")
    certificate = None
    if args.tls_tenant is not None:
        if args.tls_client_ca is None:
            raise ValueError("--tls-tenant needs --tls-client-ca")
        if args.auth_tokens is not None or signed is not None:
            raise ValueError("--tls-tenant: the tenant comes from the token already (--auth-tokens, --auth-jwks)")
        certificate = CertificateTenant(args.tls_tenant)
    if args.auth_tokens is None and signed is None and certificate is None:
        return None
    return AuthOptions(args.auth_tokens, signed, certificate)


def _algorithms(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in ALGORITHMS:
            raise ValueError(f"--auth-algorithms: {name[:40]!r} is not accepted, allowed are {', '.join(ALGORITHMS)}")
    return names
