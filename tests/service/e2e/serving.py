"""Starting the `lepton` command, and waiting for what it says."""

import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.served import Log

LEPTON = str(Path(sys.executable).parent / "lepton")
STARTED: list[subprocess.Popen[str]] = []


class Serving:
    """A `lepton serve` in a process of its own, and what it says.

    Attributes:
        target, control: addresses of the inference and the control port.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._log = Log(process)
        self.target = self.wait_for(r"inference on (\S+)")
        self.control = self.wait_for(r"control on (\S+)")

    @property
    def log(self) -> str:
        """All that it has said so far."""
        return self._log.text

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """See `Log.wait_for`."""
        return self._log.wait_for(pattern, times)

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
        self._log.close()
        return status


def start(model: Path | None = None, *flags: str) -> Serving:
    """A server whose ports are open; its model may still load."""
    command = [LEPTON, "serve", *([] if model is None else [str(model)])]
    command += ["--port", "0", "--control-port", "0", "--num-threads", "1"]
    command += ["--kv-cache-memory", "32MiB", "--drain-propagation", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    STARTED.append(process)
    return Serving(process)


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
