"""Who may call: credentials become a principal, and a principal has a tenant."""

from lepton_service.auth.authenticator import Authenticator
from lepton_service.auth.errors import (
    AuthConfigError,
    AuthenticationError,
    CredentialExpiredError,
    CredentialInvalidError,
    CredentialMissingError,
    TenantNotAllowedError,
)
from lepton_service.auth.principal import CertificateNames, Principal

__all__ = [
    "AuthConfigError",
    "AuthenticationError",
    "Authenticator",
    "CertificateNames",
    "CredentialExpiredError",
    "CredentialInvalidError",
    "CredentialMissingError",
    "Principal",
    "TenantNotAllowedError",
]
