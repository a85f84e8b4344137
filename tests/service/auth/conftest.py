"""Tokens, keys of an identity provider, and certificates, all made here."""

import base64
import datetime
import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from lepton_service.auth.jwt_options import JWTOptions
from lepton_service.auth.tokens import TokenEntry, digest

ISSUER, AUDIENCE = "https://id.example", "lepton"


def put(path: Path, data: bytes | str) -> None:
    """Puts a file in the place of another, at once."""
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.write_bytes(data.encode() if isinstance(data, str) else data)
    fresh.replace(path)


@pytest.fixture(name="put")
def put_fixture() -> Callable[[Path, bytes | str], None]:
    return put


@pytest.fixture
def token_lines() -> Callable[..., str]:
    """The text of a token file, from `tenant=token`."""

    def make(expires: float | None = None, **tokens: str) -> str:
        entries = [TokenEntry(f"{tenant}-ci", tenant, digest(token), expires) for tenant, token in tokens.items()]
        return "# tokens\n\n" + "".join(entry.line() + "\n" for entry in entries)

    return make


class Issuer:
    """An identity provider: one key of each kind."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "RS256": rsa.generate_private_key(65537, 2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "ES384": ec.generate_private_key(ec.SECP384R1()),
        }

    def jwks(self, *names: str) -> str:
        """The public keys as a JWKS; their kids are the names of their algorithms."""
        return json.dumps({"keys": [self.jwk(name) for name in names or self.keys]})

    def jwk(self, name: str) -> dict[str, Any]:
        """A public key."""
        kind = jwt.algorithms.RSAAlgorithm if name == "RS256" else jwt.algorithms.ECAlgorithm
        return {**kind.to_jwk(self.keys[name].public_key(), as_dict=True), "kid": name}

    def pem(self, name: str) -> bytes:
        """A public key as PEM."""
        public = self.keys[name].public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(public.public_bytes(serialization.Encoding.PEM, form))

    def token(
        self,
        key: str = "ES256",
        *,
        algorithm: str | None = None,
        headers: Mapping[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """A token that is valid for a minute but for what is asked otherwise."""
        now = int(time.time())
        given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 60, **claims}
        given = {name: value for name, value in given.items() if name not in without}
        head = {name: value for name, value in {"kid": key, **(headers or {})}.items() if value is not None}
        return jwt.encode(given, self.keys[key], algorithm or key, headers=head)

    def forged(self, header: Mapping[str, Any], claims: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> str:
        """A token put together by hand."""
        parts = [_base64(json.dumps(part).encode()) for part in (header, claims)]
        return b".".join([*parts, _base64(sign(b".".join(parts)))]).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def jwt_options(issuer: Issuer, tmp_path: Path) -> JWTOptions:
    path = tmp_path / "jwks.json"
    path.write_text(issuer.jwks())
    return JWTOptions(path, ISSUER, (AUDIENCE, "other"))


class Authority:
    """Signs certificates."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, [x509.BasicConstraints(ca=True, path_length=None)])

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str | None, *uris: str) -> tuple[bytes, bytes]:
        """A certificate for loopback and its key, PEM; name None leaves the subject empty."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        names += [x509.UniformResourceIdentifier(uri) for uri in uris]
        subject = x509.Name([] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._sign(subject, key, [x509.SubjectAlternativeName(names)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return signed.public_bytes(serialization.Encoding.PEM), private

    def _sign(self, subject: x509.Name, key: Any, extensions: list[x509.ExtensionType]) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def stranger() -> Authority:
    return Authority("stranger")
