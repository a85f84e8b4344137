"""Draws a benchmark's rows: one panel a work, one bar a system and its weights."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import LEPTON, Row

COLUMNS = 2
OURS, THEIRS = "tab:orange", "0.6"


def draw(title: str, rows: Sequence[Row], file: Path) -> None:
    """Write the picture; its format is that of the file's suffix.

    Raises:
        ValueError: there are no rows, or matplotlib knows no such format.
    """
    if not rows:
        raise ValueError("no rows to draw")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row.work, row.unit), []).append(row)
    lines = -(-len(panels) // COLUMNS)
    tallest = max(len(bars) for bars in panels.values())
    size = (7 * COLUMNS, lines * (1.2 + 0.32 * tallest))
    figure, axes = pyplot.subplots(lines, COLUMNS, figsize=size, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, ((work, unit), bars) in zip(axes.flat, panels.items(), strict=False):
        places = range(len(bars))
        colours = [OURS if row.system == LEPTON else THEIRS for row in bars]
        drawn = axis.barh(places, [row.value for row in bars], color=colours)
        axis.bar_label(drawn, [f"{row.value:.4g}" for row in bars], padding=3)
        axis.set_yticks(places, [f"{row.system}, {row.weights}" for row in bars])
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_title(work, loc="left", fontsize="medium")
        axis.set_xlabel(unit)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left")
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
