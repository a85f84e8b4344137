"""TLS credentials from files, checked before the server starts: Core itself says little about what is wrong."""

import ssl
from pathlib import Path

import grpc

from lepton_service.options import TLSFiles


class TLSError(Exception):
    """A certificate or key that cannot be used; the message names the file and what is wrong."""


def server_credentials(files: TLSFiles) -> grpc.ServerCredentials:
    """Credentials of the inference port.

    Raises:
        TLSError: a file is missing, is no PEM, or certificate and key do not match.
    """
    certificate, key = _read(files.certificate, "certificate"), _read(files.key, "key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except (ssl.SSLError, ValueError) as error:
        if "mismatch" in str(error).lower():
            message = f"TLS certificate {files.certificate} and key {files.key} do not belong together"
        else:
            message = f"TLS certificate {files.certificate} or key {files.key} cannot be used: {error}"
        raise TLSError(message) from error
    authority = None
    if files.client_ca is not None:
        authority = _read(files.client_ca, "client CA")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise TLSError(f"TLS client CA {files.client_ca} cannot be used: {error}") from error
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority, require_client_auth=authority is not None
    )


def _refuse_password() -> str:
    raise ValueError("the key is encrypted, an unencrypted one is required")


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSError(f"TLS {what} {path} cannot be read: {error.strerror}") from error
