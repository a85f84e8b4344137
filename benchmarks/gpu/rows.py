"""Figures with what they are to reach."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        part: the part of `make gpu` that measured it. work: what was done. weights: shape and format.
        target: what it is to reach, None where nothing is asked. at_least: whether more is better.
        note: what a reader must know of it.
    """

    part: str
    work: str
    weights: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the figure is at its target; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def table(rows: list[Row]) -> str:
    """The rows as text, one a line."""
    lines = []
    for row in rows:
        sign = ">=" if row.at_least else "<="
        target = (
            "" if row.target is None else f"(target {sign} {row.target:g}: {'reached' if row.reached else 'MISSED'})"
        )
        lines.append(f"{row.part:12} {row.work:44} {row.weights:12} {row.value:10.4g} {row.unit:8} {target} {row.note}")
    return "\n".join(lines)
