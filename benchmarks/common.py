"""What all benchmarks share: the command line, rows, the table, the machine."""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

LEPTON = "lepton"
LEVEL = 0.97


@dataclass
class Row:
    """One figure.

    Attributes:
        work: what was done. system: who did it. weights: shape and dtype.
        ratio: Lepton's value over this system's; None for Lepton itself and where nothing is compared.
        peak_rss_mb: peak resident memory of the system's process, in MiB.
    """

    work: str
    system: str
    weights: str
    value: float
    unit: str
    ratio: float | None = None
    peak_rss_mb: float | None = None
    versions: dict[str, str] = field(default_factory=dict)


def parser(description: str, plot: bool = False) -> argparse.ArgumentParser:
    """The options that every benchmark has; `plot` for those whose table is worth a picture."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="less work and fewer runs: a smoke test, not a figure")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    if plot:
        made.add_argument("--plot", type=Path, metavar="FILE", help="draw the table there (.png, .svg, .pdf)")
    return made


def versions(*packages: str) -> dict[str, str]:
    """Versions of the named distributions."""
    return {package: metadata.version(package) for package in packages}


def machine() -> str:
    """The processor and the cores that this process may use."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # Not Linux.
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def compare(rows: Sequence[Row], higher_is_better: bool = True) -> None:
    """Fill in the ratios: Lepton's value over each peer's in the same work; above 1 is better for Lepton."""
    own = {row.work: row.value for row in rows if row.system == LEPTON}
    for row in rows:
        if row.system != LEPTON and row.work in own and row.value:
            ratio = own[row.work] / row.value
            row.ratio = ratio if higher_is_better else 1 / ratio


def report(title: str, rows: Sequence[Row], json_file: Path | None, notes: Sequence[str] = ()) -> None:
    """Print the table and write the rows."""
    table = Table(title=title, title_justify="left")
    for name in ("work", "system", "weights"):
        table.add_column(name)
    for name in ("value", "lepton / it", "peak MiB"):
        table.add_column(name, justify="right")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x" + (" (level)" if LEVEL <= row.ratio < 1 else "")
        memory = "" if row.peak_rss_mb is None else f"{row.peak_rss_mb:.0f}"
        table.add_row(row.work, row.system, row.weights, f"{row.value:.4g} {row.unit}", ratio, memory)
    console = Console(width=120)
    console.print(table)
    for note in (machine(), *notes):
        console.print(note)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def median(values: Sequence[float]) -> float:
    """The middle of several runs."""
    return statistics.median(values)
