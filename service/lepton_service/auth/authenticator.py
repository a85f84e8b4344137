"""What decides who calls."""

from typing import Protocol

from lepton_service.auth.principal import CertificateNames, Principal


class Authenticator(Protocol):
    """Turns what a call brings into who sends it.

    Attributes:
        reads_certificate: whether the certificate decides. Where it does not, a call is refused before its message
            is read.
    """

    reads_certificate: bool

    def authenticate(self, authorization: str | None, certificate: CertificateNames | None) -> Principal:
        """The caller.

        Args:
            authorization: the `authorization` metadata or header; None without one.
            certificate: the names in the peer's verified certificate; None without one.

        Raises:
            AuthenticationError: it is nobody who may call.
        """
