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


class Log:
    """Reads what a server says to its end: a full pipe would stop the server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._grew = threading.Condition()
        self._ended = False
        assert process.stderr is not None
        self._stream = process.stderr
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._grew:
                self.lines.append(line)
                self._grew.notify_all()
        with self._grew:
            self._ended = True
            self._grew.notify_all()

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """The first group of the line that matches as the `times`-th, once there is one.

        Raises:
            RuntimeError: the server has ended without it.
        """
        seen = found = 0
        with self._grew:
            while True:
                for line in self.lines[seen:]:
                    match = re.search(pattern, line)
                    found += match is not None
                    if match is not None and found == times:
                        return match[1]
                seen = len(self.lines)
                if self._ended:
                    raise RuntimeError(f"the server ended without {pattern!r}:\n{self.text}")
                self._grew.wait()

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self.lines)

    def close(self) -> None:
        """Returns when all has been read of a server that has ended."""
        self._reader.join()


class Server:
    """A server that runs.

    Attributes:
        target, control: addresses of the inference and the control port.
        log: what it says. front: its front end's process.
    """

    def __init__(self, process: subprocess.Popen[str], temporary: Path) -> None:
        self.process = process
        self.front = psutil.Process(process.pid)
        self.log = Log(process)
        self._temporary = temporary
        self.target = self.log.wait_for(r"inference on (\S+)")
        self.control = self.log.wait_for(r"control on (\S+)")

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
def serving(*flags: str, model: Path | None = None, threads: int = 1) -> Iterator[Server]:
    """A server on free ports of loopback that is ready, its temporary folders in one of its own; drained at the end.

    Args:
        flags: more of them. model: None for the embedded one. threads: the engine's.

    Raises:
        RuntimeError: it did not start, or did not end well.
    """
    with tempfile.TemporaryDirectory(prefix="served-") as folder:
        command = [sys.executable, "-c", "from lepton_service.cli import main; raise SystemExit(main())", "serve"]
        command += [] if model is None else [str(model)]
        options = ["--port", "0", "--control-port", "0", "--drain-propagation", "0", "--num-threads", str(threads)]
        environment = {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "10000", **os.environ, "TMPDIR": folder}
        process = subprocess.Popen([*command, *options, *flags], stderr=subprocess.PIPE, text=True, env=environment)
        with ended(process):
            server = Server(process, Path(folder))
            server.log.wait_for(r"model (\S+) is ready")
            yield server


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Ends a server behind the body, by SIGTERM where that went well.

    Raises:
        RuntimeError: it did not end well by itself.
    """
    try:
        yield
        process.send_signal(signal.SIGTERM)
        if process.wait() != 0:
            raise RuntimeError(f"the server ended with {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
