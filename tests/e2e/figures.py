"""The figures of a run: written while it goes on, printed at its end, and the table of docs/e2e.md.

python -m tests.e2e.figures FILE...                        # the table, of one run or of several beside each other
python -m tests.e2e.figures FILE... --into docs/e2e.md     # put between the marks of that page
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.common import machine
from tests.e2e.plan import Record

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass(frozen=True)
class Figure:
    """One line of the table; `target` is empty where none was set."""

    what: str
    value: str
    target: str = ""


class Figures:
    """Collects figures; the file holds those so far, whatever ends the run.

    Attributes:
        found: in the order in which they came.
    """

    def __init__(self, run: str, path: Path) -> None:
        self.found: list[Figure] = []
        self._run, self.path = run, path

    def add(self, what: str, value: str, target: str = "") -> None:
        """One figure more."""
        self.found.append(Figure(what, value, target))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"run": self._run, "machine": machine(), "figures": [asdict(figure) for figure in self.found]}
        self.path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def streams(self, what: str, records: Sequence[Record], target: str = "") -> None:
        """How streams ended."""
        good = sum(record.good for record in records)
        self.add(what, f"{len(records)} ended, {len(records) - good} of them with an error or another text", target)

    def times(self, what: str, seconds: Sequence[float], target: str = "") -> None:
        """The middle, the 95th percentile and the most of some times in seconds."""
        ordered = sorted(seconds)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
        found = f"p50 {statistics.median(ordered):.1f} s, p95 {p95:.1f} s, most {ordered[-1]:.1f} s"
        self.add(what, found, target)


def table(paths: Sequence[Path]) -> str:
    """Markdown: a line a figure, a column a run, and what machine it was. Raises OSError, ValueError."""
    runs = [json.loads(path.read_text()) for path in paths]
    head = ["what", *(run["run"] for run in runs), "target"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    values = [{figure["what"]: figure for figure in run["figures"]} for run in runs]
    for what in dict.fromkeys(name for found in values for name in found):
        cells = [found.get(what, {}).get("value", "") for found in values]
        target = next(found[what]["target"] for found in values if what in found)
        lines.append(f"| {' | '.join([what, *cells, target])} |")
    machines = dict.fromkeys(run["machine"] for run in runs)
    return "\n".join([*lines, "", f"Measured on {'; '.join(machines)}.", ""])


def put(page: str, text: str) -> str:
    """The page with the text between its marks. Raises ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{text}{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or puts it into a page."""
    parser = argparse.ArgumentParser(description="The table of the end-to-end figures.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="figures that a run has written")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put it between the marks of this page")
    args = parser.parse_args(arguments)
    text = table(args.files)
    if args.into is None:
        print(text)
    else:
        args.into.write_text(put(args.into.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
