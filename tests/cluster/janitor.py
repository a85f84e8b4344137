"""Ends what a test run started, and removes its folders, however the run ends.

Run as a program it reads one instruction a line from its standard input and obeys them all when that closes: when the
run closes it, or when the kernel does because the run was killed. Processes are held by their descriptor, so that an id
which was given to somebody else meanwhile is not hit.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


class Janitor:
    """The run's side: hand in processes and folders."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True, text=True
        )

    def process(self, pid: int) -> None:
        """End this process at the end. It must lead a session of its own: its group ends with it."""
        self._tell(f"process {pid}")

    def folder(self, path: Path) -> None:
        """Remove this folder at the end, after all processes."""
        self._tell(f"folder {path}")

    def close(self) -> None:
        """Do it now, and wait until it is done."""
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait()

    def _tell(self, line: str) -> None:
        assert self._program.stdin is not None
        self._program.stdin.write(line + "\n")
        self._program.stdin.flush()


def main() -> None:
    """Listen, then clean up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle.
    processes: list[tuple[int, int]] = []
    folders: list[str] = []
    for line in sys.stdin:
        kind, _, what = line.rstrip("\n").partition(" ")
        if kind == "folder":
            folders.append(what)
            continue
        try:
            processes.append((int(what), os.pidfd_open(int(what))))
        except ProcessLookupError:
            continue
    for pid, descriptor in reversed(processes):
        try:
            signal.pidfd_send_signal(descriptor, 0)
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 10
    for _, descriptor in processes:
        select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
