"""The client's credential: a bearer token, which goes over TLS, or in plaintext no further than this machine."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path

import grpc

Token = str | Callable[[], str]
"""A bearer token, or what gives the one of the moment; it is asked at every call."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_SCHEME = re.compile(r"(?:dns:(?://[^/]*/)?|ipv[46]:)")


class PlaintextTokenError(ValueError):
    """A token that others would read on its way."""


def token_file(path: Path | str) -> Callable[[], str]:
    """The token that a file holds at the moment of a call: mounted ones are renewed. Raises OSError when called."""
    return lambda: Path(path).read_text(encoding="ascii").strip()


def is_local(target: str) -> bool:
    """Whether a gRPC target is this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    rest = _SCHEME.sub("", target, count=1)
    hosts = rest.split(",")  # ipv4: takes several
    return bool(rest) and all(_is_loopback(host) for host in hosts)


def _is_loopback(address: str) -> bool:
    host = address if address.count(":") > 1 and "]" not in address else address.rpartition(":")[0] or address
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class BearerToken:
    """Puts a token on calls.

    Args:
        target: whom the calls go to. encrypted: whether over TLS.
        allow_plaintext: send it without TLS to other machines, too, because the network itself encrypts.

    Raises:
        PlaintextTokenError: the token would leave this machine in plaintext.
        ValueError: the token is none.
    """

    def __init__(self, token: Token, target: str, *, encrypted: bool, allow_plaintext: bool) -> None:
        if not encrypted and not allow_plaintext and not is_local(target):
            raise PlaintextTokenError(
                f"the token would go to {target} in plaintext: use TLS, or allow it where the network itself encrypts"
            )
        self._encrypted = encrypted
        self._source: Callable[[], str] = token if callable(token) else lambda: token
        if not callable(token):
            self.header()

    def header(self) -> str:
        """The value of `authorization` now.

        Raises:
            ValueError: the token is none (it is not shown).
        """
        token = self._source()
        if not _TOKEN.fullmatch(token):
            raise ValueError("the token has characters that no bearer token has, or is empty")
        return f"Bearer {token}"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call in plaintext brings along; nothing over TLS, where the channel sees to it."""
        return () if self._encrypted else (("authorization", self.header()),)

    def secure(self, credentials: grpc.ChannelCredentials) -> grpc.ChannelCredentials:
        """A TLS channel's credentials with the token: it is given to no other channel."""
        return grpc.composite_channel_credentials(credentials, grpc.metadata_call_credentials(_Plugin(self.header)))


class _Plugin(grpc.AuthMetadataPlugin):
    """Gives gRPC the header of the moment."""

    def __init__(self, header: Callable[[], str]) -> None:
        self._header = header

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Called by gRPC, in a thread of its own, before each call."""
        try:
            header = self._header()
        except (OSError, ValueError) as error:
            callback((), error)
            return
        callback((("authorization", header),), None)


def call_metadata(bearer: BearerToken | None) -> tuple[tuple[str, str], ...]:
    """What a call brings along for its token."""
    return () if bearer is None else bearer.metadata()
