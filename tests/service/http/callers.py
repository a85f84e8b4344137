"""Who may call a front end of these tests."""

from lepton_service.auth import (
    CertificateNames,
    CredentialExpiredError,
    CredentialInvalidError,
    CredentialMissingError,
    Principal,
)


class Tokens:
    """`Bearer NAME` is the tenant of that name; `old` has expired, and only lower-case names are valid."""

    reads_certificate = False

    def authenticate(self, authorization: str | None, certificate: CertificateNames | None) -> Principal:
        if authorization is None:
            raise CredentialMissingError()
        scheme, _, name = authorization.partition(" ")
        if scheme != "Bearer" or not name.islower():
            raise CredentialInvalidError("not lower case")
        if name == "old":
            raise CredentialExpiredError("a year ago")
        return Principal(name, f"{name}-token")
