"""Flags of authentication, and the warning of a server that is open to others."""

import argparse

import pytest

from lepton_service.auth import exposure
from lepton_service.auth.certificates import CertificateTenant
from lepton_service.auth.jwt_options import ALGORITHMS
from lepton_service.commands import serve
from lepton_service.commands.serve import server_options
from lepton_service.options import ServerOptions

JWT = ["--auth-jwks", "keys", "--auth-issuer", "https://id.example", "--auth-audience", "lepton"]
TLS = ["--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"]


def options(*flags: str) -> ServerOptions:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return server_options(parser.parse_args(flags))


def test_flags_become_settings() -> None:
    assert options().auth is None
    assert options(*TLS).auth is None, "certificates are asked for by TLS"
    tokens = options("--auth-tokens", "t").auth
    assert tokens is not None
    assert str(tokens.tokens) == "t"
    both = options("--auth-tokens", "t", *JWT, "--auth-audience", "other", "--auth-algorithms", "ES256,EdDSA").auth
    assert both is not None
    assert both.jwt is not None
    assert (both.jwt.issuer, both.jwt.audiences) == ("https://id.example", ("lepton", "other"))
    assert (both.jwt.tenant_claim, both.jwt.algorithms, both.jwt.leeway) == ("sub", ("ES256", "EdDSA"), 30.0)
    named = options(*TLS, "--tls-tenant", "uri").auth
    assert named is not None
    assert named.certificate_tenant is CertificateTenant.URI


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (JWT[:2], "--auth-jwks needs --auth-issuer and --auth-audience"),
        (JWT[:4], "--auth-jwks needs --auth-issuer and --auth-audience"),
        ([*JWT[:5], ""], "--auth-jwks needs --auth-issuer and --auth-audience"),
        (JWT[2:4], "--auth-issuer needs --auth-jwks"),
        (["--auth-leeway", "3"], "--auth-leeway needs --auth-jwks"),
        (["--auth-tenant-claim", "t"], "--auth-tenant-claim needs --auth-jwks"),
        ([*JWT, "--auth-tenant-claim", ""], "a claim's name is required"),
        ([*JWT, "--auth-algorithms", "HS256"], "'HS256' is not accepted"),
        ([*JWT, "--auth-algorithms", "ES256,none"], "'none' is not accepted"),
        ([*JWT, "--auth-algorithms", ""], "'' is not accepted"),
        (["--tls-tenant", "cn"], "--tls-tenant needs --tls-client-ca"),
        ([*TLS[:4], "--tls-tenant", "cn"], "--tls-tenant needs --tls-client-ca"),
        ([*TLS, "--tls-tenant", "cn", *JWT], "the tenant comes from the token already"),
        ([*TLS, "--tls-tenant", "cn", "--auth-tokens", "t"], "the tenant comes from the token already"),
    ],
)
def test_flags_that_do_not_go_together_are_named(flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(*flags)


def test_no_algorithm_is_symmetric() -> None:
    assert not any(name.startswith("HS") or name.lower() == "none" for name in ALGORITHMS)


@pytest.mark.parametrize(
    ("hosts", "encrypted", "asks", "told"),
    [
        (["127.0.0.1", "::1", "localhost", "127.8.0.1"], False, False, None),
        (["0.0.0.0", "::"], True, True, None),
        (["0.0.0.0"], False, False, "LISTENING ON 0.0.0.0 WITHOUT TLS AND AUTHENTICATION"),
        (["127.0.0.1", "::"], True, False, "LISTENING ON :: WITHOUT AUTHENTICATION: everyone who reaches it"),
        (["10.0.0.1"], False, True, "LISTENING ON 10.0.0.1 WITHOUT TLS: prompts, outputs and tokens can be read"),
        (["10.0.0.1", "0.0.0.0"], False, True, "LISTENING ON 0.0.0.0, 10.0.0.1 WITHOUT TLS"),
    ],
)
def test_a_server_that_is_open_to_others_warns(hosts: list[str], encrypted: bool, asks: bool, told: str | None) -> None:
    found = exposure.warning(hosts, encrypted=encrypted, asks=asks)
    assert found == told if told is None else found is not None and found.startswith(told)
