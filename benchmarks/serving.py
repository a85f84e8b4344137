"""A server in a process of its own, its log read to the end."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil


@contextmanager
def serving(options: Sequence[str]) -> Iterator[tuple[str, psutil.Process]]:
    """`lepton serve` of the embedded model, ready, on free ports: its inference address and the front end's process.

    Raises:
        RuntimeError: it did not start.
    """
    command = ["-c", "from lepton_service.cli import main; raise SystemExit(main())", "serve"]
    fixed = ["--port", "0", "--control-port", "0", "--drain-propagation", "0", "--num-threads", "1"]
    server = subprocess.Popen([sys.executable, *command, *fixed, *options], stderr=subprocess.PIPE, text=True)
    log = Log(server)
    try:
        address = log.wait_for(r"inference on (\S+)")
        log.wait_for(r"model (\S+) is ready")
        yield address, psutil.Process(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


class Log:
    """Reads a server's log to its end: a full pipe would stop the server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._grew = threading.Condition()
        self._ended = False
        assert process.stderr is not None
        self._stream = process.stderr
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            with self._grew:
                if len(self.lines) < 1000:
                    self.lines.append(line)
                self._grew.notify_all()
        with self._grew:
            self._ended = True
            self._grew.notify_all()

    def wait_for(self, pattern: str) -> str:
        """The first group of the first line that matches.

        Raises:
            RuntimeError: the server has ended without it.
        """
        with self._grew:
            while True:
                for line in self.lines:
                    if match := re.search(pattern, line):
                        return match[1]
                if self._ended:
                    raise RuntimeError("the server did not start: " + "".join(self.lines))
                self._grew.wait()
