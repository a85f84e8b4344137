"""The certificates of the inference port for HTTPS."""

import ssl

from lepton_service.options import TLSFiles
from lepton_service.tls import server_credentials


def server_context(files: TLSFiles) -> ssl.SSLContext:
    """What a TLS connection is accepted with; clients must show a certificate where gRPC asks for one.

    Raises:
        TLSError: a file is missing, or certificate and key do not belong together.
    """
    server_credentials(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.client_ca)
    return context
