"""What `lepton quantize` and `lepton prune` share: arguments, a progress bar, and how they end."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """Source and target."""
    parser.add_argument("source", metavar="SRC", help="checkpoint folder, or Hugging Face id in the local cache")
    parser.add_argument("target", metavar="DST", type=Path, help="folder to write; must not exist yet")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run_offline(command: str, quiet: bool, work: Callable[[Callable[[int, int, str], None]], str]) -> int:
    """Does the work with a progress bar on stderr, then prints the line that it returns.

    Returns:
        0, or 1 after an explanation on stderr.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    try:
        from lepton_engine.errors import LeptonError
    except ImportError as error:
        print(f"lepton {command}: the engine is not installed here: {error}", file=sys.stderr)
        return 1
    console = Console(stderr=True)
    columns = (
        TextColumn("tensors"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    began = time.monotonic()
    try:
        with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
            task = bar.add_task("tensors", total=None, name="")

            def progress(done: int, total: int, name: str) -> None:
                bar.update(task, completed=done, total=total, name=name)

            line = work(progress)
    except LeptonError as error:
        print(f"lepton {command}: {error}", file=sys.stderr)
        return 1
    print(f"{line}, in {time.monotonic() - began:.1f} s")
    return 0
