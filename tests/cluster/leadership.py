"""What the audit log says of leadership."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.cluster.audit import Write


@dataclass(frozen=True)
class Terms:
    """The promise that is checked.

    Attributes:
        duration: seconds for which a written Lease holds.
        timeout: seconds that one request may take at most.
    """

    duration: float
    timeout: float


def renewals(writes: Iterable[Write]) -> list[Write]:
    """The successful writes of Leases."""
    return [w for w in writes if w.resource == "leases" and w.code < 300]


def trespasses(writes: Iterable[Write], terms: Terms, users: Iterable[str]) -> list[str]:
    """Writes of operators that were not the leader, as sentences.

    A write (but of a Lease) may come from a process only while its last successful write of the Lease is not older than
    the Lease holds plus one request's timeout, and another's Lease was not written between.
    """
    watched = set(users)
    found = []
    last: dict[str, float] = {}
    for write in sorted(writes, key=lambda w: w.received):
        if write.user not in watched:
            continue
        if write.resource == "leases":
            if write.code < 300:
                last[write.user] = write.received
            continue
        if write.user not in last:
            found.append(f"{write.user}: {write.what}, without ever having held the Lease")
        elif write.received > last[write.user] + terms.duration + terms.timeout:
            late = write.received - last[write.user]
            found.append(f"{write.user}: {write.what}, {late:.1f} s after its last renewal")
    return found
