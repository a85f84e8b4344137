"""What the suites found, as one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One suite over one kind of connection.

    Attributes:
        passed, expected: cases that passed, and that failed as a list in this folder says.
        wrong: one line for each that failed without being listed, or passed although it is listed.
    """

    suite: str
    connection: str
    passed: int
    expected: int
    wrong: Sequence[str]


def table(rows: Iterable[Row]) -> str:
    """The rows for a person."""
    lines = [f"{'suite':<20}{'connection':<26}{'passed':>8}{'listed':>8}{'wrong':>8}"]
    for row in rows:
        lines.append(f"{row.suite:<20}{row.connection:<26}{row.passed:>8}{row.expected:>8}{len(row.wrong):>8}")
        lines += [f"    {line}" for line in row.wrong]
    return "\n".join(lines)
