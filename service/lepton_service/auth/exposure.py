"""What a server that listens beyond its own machine is warned of."""

import ipaddress
from collections.abc import Iterable

ENCRYPT = "prompts, outputs and tokens can be read on the way (--tls-cert and --tls-key encrypt them)"
ASK = "everyone who reaches it may use the model (--auth-tokens, --auth-jwks or --tls-client-ca ask who calls)"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warning(addresses: Iterable[str], *, encrypted: bool, asks: bool) -> str | None:
    """The warning of a server that is open to others; None where there is nothing to say.

    Args:
        addresses: that it listens on. encrypted: whether by TLS. asks: whether callers are asked for a credential,
            a certificate included.
    """
    hosts = sorted({host for host in addresses if not is_loopback(host)})
    missing = [*(() if encrypted else ("TLS",)), *(() if asks else ("AUTHENTICATION",))]
    if not hosts or not missing:
        return None
    told = "; ".join([*(() if encrypted else (ENCRYPT,)), *(() if asks else (ASK,))])
    return f"LISTENING ON {', '.join(hosts)} WITHOUT {' AND '.join(missing)}: {told}"
