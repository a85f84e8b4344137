"""A `lepton serve` of its own for a benchmark: its addresses, its log, its processes and what they hold."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Held:
    """What a server holds of the system: file descriptors, zombies, temporary folders, and resident memory in MiB."""

    descriptors: int
    zombies: int
    folders: int
    front_mb: float
    engine_mb: float


class Server:
    """A server that runs.

    Attributes:
        target, control: addresses of the inference and the control port.
    """

    def __init__(self, process: subprocess.Popen[str], temporary: Path) -> None:
        self.process = process
        self.front = psutil.Process(process.pid)
        self.lines: list[str] = []
        self._temporary = temporary
        self._grew = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()
        self.target = self.wait_for(r"inference on (\S+)")
        self.control = self.wait_for(r"control on (\S+)")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grew:
                self.lines.append(line)
                self._grew.notify_all()
        with self._grew:
            self._ended = True
            self._grew.notify_all()

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """The first group of the `times`-th line of the log that matches.

        Raises:
            RuntimeError: the server has ended without it.
        """
        with self._grew:
            while True:
                found = [match[1] for line in self.lines if (match := re.search(pattern, line))]
                if len(found) >= times:
                    return found[times - 1]
                if self._ended:
                    raise RuntimeError("the server ended:\n" + "".join(self.lines))
                self._grew.wait()

    def engine(self) -> psutil.Process | None:
        """The engine's process; None while there is none."""
        for child in self.front.children():
            try:
                if "lepton_engine" in " ".join(child.cmdline()):
                    return child
            except psutil.Error:
                continue
        return None

    def held(self) -> Held:
        """What it holds now."""
        children = self.front.children(recursive=True)
        engine = self.engine()
        return Held(
            self.front.num_fds(),
            sum(child.status() == psutil.STATUS_ZOMBIE for child in children),
            len(list(self._temporary.iterdir())),
            self.front.memory_info().rss / 2**20,
            0.0 if engine is None else engine.memory_info().rss / 2**20,
        )


@contextmanager
def serving(*flags: str, model: Path | None = None) -> Iterator[Server]:
    """A server on free ports of loopback, its temporary folders in one of its own; drained at the end."""
    with tempfile.TemporaryDirectory(prefix="served-") as folder:
        command = [sys.executable, "-c", "from lepton_service.cli import main; raise SystemExit(main())", "serve"]
        command += [] if model is None else [str(model)]
        options = ["--port", "0", "--control-port", "0", "--drain-propagation", "0", "--num-threads", "1"]
        environment = {**environ(), "TMPDIR": folder}
        process = subprocess.Popen([*command, *options, *flags], stderr=subprocess.PIPE, text=True, env=environment)
        try:
            yield Server(process, Path(folder))
            process.send_signal(signal.SIGTERM)
            if process.wait() != 0:
                raise RuntimeError(f"the server ended with {process.returncode}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def environ() -> dict[str, str]:
    """The environment of a server whose idle threads sleep."""
    return {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "10000", **os.environ}
