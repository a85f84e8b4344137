"""Runs the suites and prints a table: `python -m conformance [interop] [connect] [h2spec]`.

The exit status is 1 when a case failed that is not listed, or passed although it is.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from conformance import connect, h2spec, interop
from conformance.programs import folder
from conformance.rows import Row, table
from conformance.running import interop_server

SUITES = ("interop", "connect", "h2spec")


def run(suites: list[str]) -> list[Row]:
    """The rows of these suites."""
    programs, rows = folder(), []
    with tempfile.TemporaryDirectory(prefix="lepton-conformance-") as name:
        scratch = Path(name)
        for keys in (None, scratch / "keys"):
            if not {"interop", "h2spec"} & set(suites):
                break
            with interop_server(programs, keys) as server:
                if "interop" in suites:
                    rows.append(interop.run(programs, server))
                if "h2spec" in suites:
                    rows.append(h2spec.run(programs, server, scratch))
    if "connect" in suites:
        rows.append(connect.run(programs))
    return rows


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"some of {', '.join(SUITES)} (default: all)")
    chosen = parser.parse_args().suites or list(SUITES)
    if unknown := set(chosen) - set(SUITES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    rows = run(chosen)
    print(table(rows))
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
