"""TLS from files: checked before the server starts, since Core says little about what is wrong, and read again when
they change. Files that cannot be used are logged once; those before stay in force."""

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from lepton_service.auth.files import Stamp, stamp
from lepton_service.options import TLSFiles

ATTEMPTS = 5

_log = logging.getLogger("lepton.tls")


class TLSError(Exception):
    """A certificate or key that cannot be used; the message names the file and what is wrong."""


class _ChangingError(TLSError):
    """Files that change while they are read."""


@dataclass(frozen=True)
class Certificates:
    """What connections are accepted with.

    Attributes:
        certificate, key, authority: PEM; the authority signs clients' certificates, None asks for none.
        context: the same for HTTP/1.1.
    """

    certificate: bytes
    key: bytes
    authority: bytes | None
    context: ssl.SSLContext

    def configuration(self) -> Any:
        """The same as gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.authority)


class ServerTLS:
    """The certificates of a server; of threads that accept connections, each may ask for them.

    Raises:
        TLSError: a file is missing, is no PEM, or certificate and key do not belong together.
    """

    def __init__(self, files: TLSFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        for attempt in range(ATTEMPTS):
            self._stamps = self._stat()
            try:
                self._current = load(files)
                break
            except TLSError:
                if attempt == ATTEMPTS - 1 or self._stat() == self._stamps:
                    raise  # else they were being replaced

    def current(self) -> Certificates:
        """The last ones that can be used."""
        stamps = self._stat()
        if stamps != self._stamps:
            with self._lock:
                if stamps != self._stamps:
                    self._renew(stamps)
        return self._current

    def _renew(self, stamps: tuple[Stamp | None, ...]) -> None:
        try:
            found = load(self._files)
        except _ChangingError:
            return  # the next connection looks again
        except TLSError as error:
            if self._stat() == stamps:
                self._stamps = stamps
                _log.error("%s; what was read before stays in force", error)
            return
        self._stamps, self._current = stamps, found
        _log.info("TLS certificate %s is read again", self._files.certificate)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC port; Core asks for the certificates at every connection."""
        given = self._current

        def fetch() -> Any:
            nonlocal given
            found = self.current()
            if found is given:
                return None
            given = found
            return found.configuration()

        return grpc.dynamic_ssl_server_credentials(
            given.configuration(), fetch, require_client_authentication=given.authority is not None
        )

    def context(self) -> ssl.SSLContext:
        """What an HTTP port accepts connections with."""

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
            connection.context = self.current().context

        found = load(self._files).context  # of its own: a context does not take itself back
        found.sni_callback = choose  # also called for those who name no server
        return found

    def _stat(self) -> tuple[Stamp | None, ...]:
        return tuple(stamp(path) for path in _paths(self._files))


def _paths(files: TLSFiles) -> list[Path]:
    return [path for path in (files.certificate, files.key, files.client_ca) if path is not None]


def load(files: TLSFiles) -> Certificates:
    """Reads and checks the files.

    Raises:
        TLSError: a file is missing, is no PEM, or certificate and key do not belong together.
    """
    before = [stamp(path) for path in _paths(files)]
    certificate, key = _read(files.certificate, "certificate"), _read(files.key, "key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except (ssl.SSLError, ValueError) as error:
        if "mismatch" in str(error).lower():
            message = f"TLS certificate {files.certificate} and key {files.key} do not belong together"
        else:
            message = f"TLS certificate {files.certificate} or key {files.key} cannot be used: {error}"
        raise TLSError(message) from error
    except OSError as error:
        raise TLSError(f"TLS certificate {files.certificate} or key {files.key}: {error.strerror}") from error
    authority = None
    if files.client_ca is not None:
        authority = _read(files.client_ca, "client CA")
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise TLSError(f"TLS client CA {files.client_ca} cannot be used: {error}") from error
        except OSError as error:
            raise TLSError(f"TLS client CA {files.client_ca}: {error.strerror}") from error
        context.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again would be held to the authority of the day that it began.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if before != [stamp(path) for path in _paths(files)]:
        raise _ChangingError(f"TLS certificate {files.certificate} changes while it is read")
    return Certificates(certificate, key, authority, context)


def _refuse_password() -> str:
    raise ValueError("the key is encrypted, an unencrypted one is required")


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSError(f"TLS {what} {path} cannot be read: {error.strerror}") from error
