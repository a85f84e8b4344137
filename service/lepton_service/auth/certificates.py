"""Tenants from clients' certificates."""

from enum import Enum

from lepton_service.auth.errors import CredentialMissingError, TenantNotAllowedError
from lepton_service.auth.principal import MAX_NAME_LENGTH, CertificateNames, Principal, is_name


class CertificateTenant(Enum):
    """Which name in a client's certificate is its tenant."""

    COMMON_NAME = "cn"
    URI = "uri"


class CertificateAuthenticator:
    """Takes the tenant from the certificate that TLS has verified."""

    reads_certificate = True

    def __init__(self, part: CertificateTenant) -> None:
        self._part = part

    def authenticate(self, authorization: str | None, certificate: CertificateNames | None) -> Principal:
        """See Authenticator. Tokens are not looked at."""
        if certificate is None:
            raise CredentialMissingError("no client certificate", "client certificate")
        common = self._part is CertificateTenant.COMMON_NAME
        names = certificate.common_names if common else certificate.uris
        kind = "common name" if common else "URI among its alternative names"
        if len(names) != 1 or not is_name(names[0]):
            raise TenantNotAllowedError(
                f"the client certificate names no tenant: exactly one {kind} of at most {MAX_NAME_LENGTH} printable "
                "ASCII characters is required",
                f"a certificate with {len(names)} of the names that are asked for",
            )
        return Principal(names[0], names[0])
