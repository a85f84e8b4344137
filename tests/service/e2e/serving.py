"""Starting the `lepton` command, and waiting for what it says."""

import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LEPTON = str(Path(sys.executable).parent / "lepton")
STARTED: list[subprocess.Popen[str]] = []


@dataclass
class Serving:
    """A `lepton serve` in a process of its own. Its log is read by a thread: a full pipe would stop the server."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    target: str = ""
    control: str = ""

    def __post_init__(self) -> None:
        self._grew = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grew:
                self.lines.append(line)
                self._grew.notify_all()
        with self._grew:
            self._ended = True
            self._grew.notify_all()

    @property
    def log(self) -> str:
        """All that it has said so far."""
        with self._grew:
            return "".join(self.lines)

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """The first group of the log line that matches as the `times`-th, once there is one."""
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
                    raise AssertionError(f"the server ended without {pattern!r}:\n{''.join(self.lines)}")
                self._grew.wait()

    def ready(self) -> str:
        """The name of the model, once it is loaded."""
        return self.wait_for(r"model (\S+) is ready")

    def engines(self) -> list[psutil.Process]:
        """The engine's processes, once there are any."""
        front = psutil.Process(self.process.pid)
        while True:
            found = [child for child in front.children() if "lepton_engine" in " ".join(child.cmdline())]
            if found:
                return found

    def finish(self) -> int:
        """The exit status, once it has ended by itself."""
        status = self.process.wait()
        self._reader.join()
        return status


def start(model: Path | None = None, *flags: str) -> Serving:
    """A server whose ports are open; its model may still load."""
    command = [LEPTON, "serve", *([] if model is None else [str(model)])]
    command += ["--port", "0", "--control-port", "0", "--num-threads", "1"]
    command += ["--kv-cache-memory", "32MiB", "--drain-propagation", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    STARTED.append(process)
    serving = Serving(process)
    serving.target = serving.wait_for(r"inference on (\S+)")
    serving.control = serving.wait_for(r"control on (\S+)")
    return serving


def end_all() -> None:
    """Ends the servers that a failed test has left; the engine's process ends with its server."""
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def lepton(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run([LEPTON, *arguments], input=text, capture_output=True, text=True, check=False)
