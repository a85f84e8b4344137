"""Who a credential says that the caller is."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_NAME_LENGTH = 256

_NAME = re.compile(rf"[\x21-\x7e]{{1,{MAX_NAME_LENGTH}}}")


def is_name(text: str) -> bool:
    """Whether a text can name a tenant or a subject: 1 to 256 printable ASCII characters without spaces.

    Names stand in log lines, metrics and metadata; what could end a line or a field of one is no name.
    """
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class Principal:
    """An authenticated caller.

    Attributes:
        tenant: whose limits it is held to and whose prefix cache it uses.
        subject: the name of the credential, for logs.
    """

    tenant: str
    subject: str


@dataclass(frozen=True)
class CertificateNames:
    """The names in a client's verified certificate.

    Attributes:
        common_names: of its subject. uris: of its subject alternative names.
    """

    common_names: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    @classmethod
    def from_auth_context(cls, properties: Mapping[str, Iterable[bytes]]) -> "CertificateNames | None":
        """From gRPC's `auth_context`; None where the peer has shown no certificate."""
        common = _texts(properties.get("x509_common_name", ()))
        names = _texts(properties.get("x509_subject_alternative_name", ()))
        if not common and not names:
            return None
        # A host name, an address or a mailbox has no `://` in it: an authority that signs one lies about more.
        return cls(common, tuple(name for name in names if "://" in name))


def _texts(values: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(value.decode("utf-8", "replace") for value in values)
