"""Bearer tokens from a file that holds only their hashes.

    # one token a line; what is behind the hash is an error
    name=ci tenant=acme sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    name=batch tenant=acme expires=2027-01-31T00:00:00Z sha256=...

A token is 256 random bits. Its plain SHA-256 cannot be turned back, for there is nothing to guess: salts and slow
hashes protect passwords, which people choose, and would cost milliseconds a call.
"""

import datetime
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lepton_service.auth.errors import AuthConfigError, CredentialExpiredError, CredentialInvalidError
from lepton_service.auth.files import WatchedFile
from lepton_service.auth.principal import MAX_NAME_LENGTH, Principal, is_name

PREFIX = "lepton_"
TOKEN_BYTES = 32
BUCKET_BYTES = 8

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)")

Entries = Mapping[bytes, "tuple[TokenEntry, ...]"]


@dataclass(frozen=True)
class TokenEntry:
    """A line of the file.

    Attributes:
        name: of the token, for logs and for those who keep the file. tenant: whose token it is.
        digest: its SHA-256. expires: in seconds since the epoch; None for never.
    """

    name: str
    tenant: str
    digest: bytes
    expires: float | None = None

    def line(self) -> str:
        """The same as the file has it."""
        parts = [f"name={self.name}", f"tenant={self.tenant}"]
        if self.expires is not None:
            moment = datetime.datetime.fromtimestamp(self.expires, datetime.UTC)
            parts.append(f"expires={moment.replace(microsecond=0, tzinfo=None).isoformat()}Z")
        return " ".join([*parts, f"sha256={self.digest.hex()}"])


def make_token() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What the file holds of a token."""
    return hashlib.sha256(token.encode()).digest()


def parse(data: bytes) -> Entries:
    """The file's tokens, by the first bytes of their digests.

    Raises:
        AuthConfigError: a line that cannot be used; its number and what is allowed.
    """
    found: dict[bytes, tuple[TokenEntry, ...]] = {}
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise AuthConfigError("is no UTF-8 text") from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            entry = _entry(text)
        except AuthConfigError as error:
            raise AuthConfigError(f"line {number}: {error}") from error
        bucket = entry.digest[:BUCKET_BYTES]
        same = found.get(bucket, ())
        if any(entry.digest == other.digest for other in same):
            raise AuthConfigError(f"line {number}: the token of {entry.name} is in the file already")
        found[bucket] = (*same, entry)
    return found


def _entry(text: str) -> TokenEntry:
    fields: dict[str, str] = {}
    for part in text.split():
        name, separator, value = part.partition("=")
        if not separator or name not in ("name", "tenant", "expires", "sha256"):
            # Never the value: someone may have put the token itself there.
            raise AuthConfigError("a field is none of name=, tenant=, expires=, sha256=")
        if name in fields:
            raise AuthConfigError(f"{name}= stands there twice")
        if "sha256" in fields:
            raise AuthConfigError("sha256= comes last, so that a line that is cut off is not taken for another")
        fields[name] = value
    for name in ("name", "tenant", "sha256"):
        if name not in fields:
            raise AuthConfigError(f"{name}= is missing")
    for name in ("name", "tenant"):
        if not is_name(fields[name]):
            raise AuthConfigError(
                f"{name}={fields[name][:100]!r} is not 1 to {MAX_NAME_LENGTH} printable ASCII characters"
            )
    if not _DIGEST.fullmatch(fields["sha256"]):
        raise AuthConfigError("sha256= is not 64 hexadecimal digits (`lepton token` makes them)")
    expires = None if "expires" not in fields else parse_time(fields["expires"])
    return TokenEntry(fields["name"], fields["tenant"], bytes.fromhex(fields["sha256"]), expires)


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time.

    Raises:
        AuthConfigError: it is none.
    """
    if _TIME.fullmatch(text):
        try:
            return datetime.datetime.fromisoformat(text).timestamp()
        except ValueError:
            pass
    raise AuthConfigError(f"expires={text[:100]!r} is not a time such as 2027-01-31T00:00:00Z")


class TokenFile:
    """The tokens of a file.

    Args:
        clock: seconds since the epoch.

    Raises:
        AuthConfigError: the file cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = WatchedFile(path, "token file", parse)
        self._clock = clock

    def principal(self, token: str) -> Principal:
        """Whose token it is.

        Raises:
            CredentialInvalidError, CredentialExpiredError.
        """
        # Time tells at most how a digest begins, which nobody can choose; the rest is compared in constant time.
        given = digest(token)
        for entry in self._file.current().get(given[:BUCKET_BYTES], ()):
            if hmac.compare_digest(entry.digest, given):
                if entry.expires is not None and entry.expires <= self._clock():
                    raise CredentialExpiredError(f"the token of {entry.name} has expired")
                return Principal(entry.tenant, entry.name)
        raise CredentialInvalidError("a bearer token that is not in the file")
