"""Signed tokens: those that are accepted, and each way to be none of them."""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lepton_service.auth import (
    AuthConfigError,
    AuthenticationError,
    CredentialExpiredError,
    CredentialInvalidError,
    Principal,
    TenantNotAllowedError,
)
from lepton_service.auth.bearer import BearerAuthenticator
from lepton_service.auth.json_web_tokens import JWTVerifier
from lepton_service.auth.jwt_options import JWTOptions
from lepton_service.auth.tokens import TokenFile

Put = Callable[[Path, bytes | str], None]


@pytest.mark.parametrize("key", ["RS256", "ES256", "ES384"])
def test_a_token_of_each_kind_of_key(issuer: Any, jwt_options: JWTOptions, key: str) -> None:
    assert JWTVerifier(jwt_options).principal(issuer.token(key)) == Principal("ann", "ann")


def test_one_of_the_audiences_is_enough(issuer: Any, jwt_options: JWTOptions) -> None:
    verifier = JWTVerifier(jwt_options)
    assert verifier.principal(issuer.token(aud=["elsewhere", "other"])).tenant == "ann"


def test_the_tenant_is_in_a_claim(issuer: Any, jwt_options: JWTOptions) -> None:
    verifier = JWTVerifier(replace(jwt_options, tenant_claim="https://example/tenant"))
    assert verifier.principal(issuer.token(**{"https://example/tenant": "acme"})) == Principal("acme", "ann")
    for wrong in ({}, *({"https://example/tenant": value} for value in (1, ["acme"], "", "a b", "x" * 257, "a\nb"))):
        with pytest.raises(TenantNotAllowedError):
            verifier.principal(issuer.token(**wrong))


def test_expired_and_not_yet_valid(issuer: Any, jwt_options: JWTOptions) -> None:
    verifier, now = JWTVerifier(jwt_options), int(time.time())
    assert verifier.principal(issuer.token(exp=now - 10, nbf=now + 10)).tenant == "ann", "clocks differ"
    with pytest.raises(CredentialExpiredError, match="expired"):
        verifier.principal(issuer.token(exp=now - 31))
    for early in ({"nbf": now + 60}, {"iat": now + 60}):
        with pytest.raises(CredentialInvalidError, match="not valid yet"):
            verifier.principal(issuer.token(**early))
    with pytest.raises(CredentialExpiredError):
        JWTVerifier(replace(jwt_options, leeway=0.0)).principal(issuer.token(exp=now - 1))


INVALID: dict[str, Callable[[Any], str]] = {
    "wrong issuer": lambda issuer: issuer.token(iss="https://evil.example"),
    "issuer that begins alike": lambda issuer: issuer.token(iss="https://id.example.evil"),
    "list of issuers": lambda issuer: _signed_bytes(issuer, json.dumps({**_claims(), "iss": ["a", "b"]}).encode()),
    "no issuer": lambda issuer: issuer.token(without=("iss",)),
    "wrong audience": lambda issuer: issuer.token(aud="elsewhere"),
    "no audience": lambda issuer: issuer.token(without=("aud",)),
    "empty audience": lambda issuer: issuer.token(aud=[]),
    "no expiry": lambda issuer: issuer.token(without=("exp",)),
    "expiry that is no number": lambda issuer: issuer.token(exp="soon"),
    "expiry without end": lambda issuer: issuer.token(exp=float("inf")),
    "not-before that is no number": lambda issuer: issuer.token(nbf=[1]),
    "tampered payload": lambda issuer: _tampered(issuer.token(), part=1),
    "tampered signature": lambda issuer: _tampered(issuer.token(), part=2),
    "no signature": lambda issuer: issuer.token().rpartition(".")[0] + ".",
    "tampered and expired": lambda issuer: _tampered(issuer.token(exp=1), part=2),
    "signed by another key of the name": lambda issuer: _signed(ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "key of another kind": lambda issuer: issuer.token("ES256", headers={"kid": "RS256"}),
    "algorithm that the key is not for": lambda issuer: _signed(issuer.keys["ES384"], "ES384", kid="ES256"),
    "none": lambda issuer: issuer.forged({"alg": "none", "kid": "ES256"}, _claims(), lambda data: b""),
    "None": lambda issuer: issuer.forged({"alg": "None", "kid": "ES256"}, _claims(), lambda data: b""),
    "HS256 with the public key": lambda issuer: issuer.forged(
        {"alg": "HS256", "kid": "RS256"},
        _claims(),
        lambda data: hmac.digest(issuer.pem("RS256"), data, hashlib.sha256),
    ),
    "HS256 with the JWKS": lambda issuer: issuer.forged(
        {"alg": "HS256", "kid": "ES256"}, _claims(), lambda data: hmac.digest(issuer.jwks().encode(), data, "sha256")
    ),
    "no algorithm": lambda issuer: issuer.forged({"kid": "ES256"}, _claims(), lambda data: b"x"),
    "key that the token brings along": lambda issuer: _signed(
        key := ec.generate_private_key(ec.SECP256R1()),
        "ES256",
        kid="brought",
        jwk=jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True),
    ),
    "critical header that is not known": lambda issuer: issuer.token(headers={"crit": ["exp2"], "exp2": 1}),
    "no kid where there are several keys": lambda issuer: issuer.token(headers={"kid": None}),
    "payload that is no object": lambda issuer: _signed_bytes(issuer, b"[]"),
    "payload that is no JSON": lambda issuer: _signed_bytes(issuer, b"{"),
    "payload of brackets": lambda issuer: _signed_bytes(issuer, b"[" * 3000),
    "too few parts": lambda issuer: "abc.def",
    "no base64": lambda issuer: "a.b.c",
    "nothing": lambda issuer: "..",
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_token_is_refused_without_saying_why(issuer: Any, jwt_options: JWTOptions, name: str) -> None:
    token = INVALID[name](issuer)
    with pytest.raises(CredentialInvalidError) as raised:
        JWTVerifier(jwt_options).principal(token)
    known = name in ("key that the token brings along",)
    assert ("not known" if known else "the credential is not valid here") in raised.value.message
    assert not isinstance(raised.value, CredentialExpiredError)
    assert token.rpartition(".")[2] == "" or token not in raised.value.cause


def test_an_unknown_key_is_named_in_the_log(issuer: Any, jwt_options: JWTOptions) -> None:
    with pytest.raises(CredentialInvalidError, match="signed by a key that is not known here") as raised:
        JWTVerifier(jwt_options).principal(issuer.token(headers={"kid": "of\nlast year"}))
    assert r"'of\nlast year'" in raised.value.cause
    assert "RS256, ES256, ES384" in raised.value.cause


def test_a_token_is_verified_once_until_it_expires(
    issuer: Any, jwt_options: JWTOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    verified = []
    decode = jwt.decode

    def counted(*given: Any, **options: Any) -> Any:
        verified.append(given[0])
        return decode(*given, **options)

    monkeypatch.setattr(jwt, "decode", counted)
    verifier = JWTVerifier(jwt_options, clock=lambda: now)
    one, other = issuer.token(), issuer.token(sub="ben")
    assert [verifier.principal(token).tenant for token in (one, other, one, other)] == ["ann", "ben", "ann", "ben"]
    assert verified == [one, other]
    now += 92  # it lasts a minute, and clocks may differ by half of one
    verifier.principal(one)
    assert verified == [one, other, one]
    for _ in range(2):
        with pytest.raises(CredentialInvalidError):
            verifier.principal(_tampered(one, part=2))
    assert len(verified) == 5


def test_what_is_remembered_has_bounds(issuer: Any, jwt_options: JWTOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_service.auth.json_web_tokens.MAX_VERIFIED", 2)
    verifier = JWTVerifier(jwt_options)
    tokens = [issuer.token(sub=name) for name in ("a", "b", "c")]
    for token in (*tokens, *tokens):
        verifier.principal(token)
    assert len(verifier._verified) == 2


def test_algorithms_are_those_of_the_settings(issuer: Any, jwt_options: JWTOptions) -> None:
    verifier = JWTVerifier(replace(jwt_options, algorithms=("RS256",)))
    assert verifier.principal(issuer.token("RS256")).tenant == "ann"
    with pytest.raises(CredentialInvalidError):
        verifier.principal(issuer.token("ES256"))
    with pytest.raises(CredentialInvalidError):
        verifier.principal(issuer.token("RS256", algorithm="PS256"))
    assert JWTVerifier(jwt_options).principal(issuer.token("RS256", algorithm="PS256")).tenant == "ann"


def test_a_single_key_needs_no_name(issuer: Any, jwt_options: JWTOptions) -> None:
    jwt_options.jwks.write_text(issuer.jwks("ES256"))
    assert JWTVerifier(jwt_options).principal(issuer.token(headers={"kid": None})).tenant == "ann"


def test_keys_that_change_are_read_again(
    issuer: Any, jwt_options: JWTOptions, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    verifier = JWTVerifier(jwt_options)
    token = issuer.token("ES256")
    assert verifier.principal(token).tenant == "ann"
    put(jwt_options.jwks, issuer.jwks("RS256"))
    with pytest.raises(CredentialInvalidError):
        verifier.principal(token)
    put(jwt_options.jwks, "{")
    for _ in range(2):
        assert verifier.principal(issuer.token("RS256")).tenant == "ann"
    assert caplog.text.count("is no JSON; what was read before stays in force") == 1
    put(jwt_options.jwks, issuer.jwks())
    assert verifier.principal(issuer.token("ES256")).tenant == "ann"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda issuer: [], "no JWKS"),
        (lambda issuer: {"keys": {}}, "no JWKS"),
        (lambda issuer: {"keys": []}, "no public key"),
        (lambda issuer: {"keys": [1]}, "no JWKS"),
        (lambda issuer: {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, r"keys\[0\] holds a secret"),
        (lambda issuer: {"keys": [{**issuer.jwk("ES256"), "d": "AA"}]}, r"keys\[0\] holds a secret"),
        (lambda issuer: {"keys": [issuer.jwk("ES256"), issuer.jwk("ES256")]}, "two keys with the kid 'ES256'"),
        (lambda issuer: {"keys": [{**issuer.jwk("ES256"), "use": "enc"}]}, "no public key"),
        (lambda issuer: {"keys": [{**issuer.jwk("ES256"), "alg": "HS256"}]}, "no public key"),
        (lambda issuer: {"keys": [{**issuer.jwk("ES256"), "x": "AA"}]}, r"keys\[0\] is no valid EC key"),
        (lambda issuer: {"keys": [{**issuer.jwk("ES256"), "kid": 1}]}, r"keys\[0\].kid is no text"),
        (lambda issuer: {"keys": [_short()]}, r"has 1024 bits, at least 2048"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_an_error(
    issuer: Any, jwt_options: JWTOptions, make: Callable[[Any], Any], message: str
) -> None:
    jwt_options.jwks.write_text(json.dumps(make(issuer)))
    with pytest.raises(AuthConfigError, match=message) as raised:
        JWTVerifier(jwt_options)
    assert str(jwt_options.jwks) in str(raised.value)


def test_both_kinds_of_tokens_at_once(
    issuer: Any, jwt_options: JWTOptions, tmp_path: Path, token_lines: Callable[..., str]
) -> None:
    (tmp_path / "tokens").write_text(token_lines(acme="one"))
    asks = BearerAuthenticator(TokenFile(tmp_path / "tokens"), JWTVerifier(jwt_options))
    assert asks.authenticate("Bearer one", None).tenant == "acme"
    assert asks.authenticate(f"Bearer {issuer.token()}", None).tenant == "ann"
    for wrong in ("two", issuer.token(iss="x"), "a.b.c"):
        with pytest.raises(AuthenticationError):
            asks.authenticate(f"Bearer {wrong}", None)


def _claims() -> dict[str, Any]:
    return {"iss": "https://id.example", "aud": "lepton", "sub": "ann", "exp": int(time.time()) + 60}


def _signed(key: Any, algorithm: str, **headers: Any) -> str:
    return jwt.encode(_claims(), key, algorithm, headers={"kid": "ES256", **headers})


def _signed_bytes(issuer: Any, payload: bytes) -> str:
    return jwt.api_jws.encode(payload, issuer.keys["ES256"], "ES256", headers={"kid": "ES256"})


def _tampered(token: str, part: int) -> str:
    parts = token.split(".")
    middle = len(parts[part]) // 2
    parts[part] = parts[part][:middle] + ("A" if parts[part][middle] != "A" else "B") + parts[part][middle + 1 :]
    return ".".join(parts)


def _short() -> dict[str, Any]:
    key = rsa.generate_private_key(65537, 1024).public_key()
    return jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
