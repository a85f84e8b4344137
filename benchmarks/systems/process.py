"""Runs a system in a child process, of this interpreter or a peer's own: load once, then one work after the other."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from benchmarks.works import Work

ROOT = Path(__file__).parents[2]
NOT_PASSED_ON = ("PYTHONHOME", "VIRTUAL_ENV", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


class System(Protocol):
    """Something that generates tokens."""

    def run(self, work: Work) -> dict[str, float]:
        """Do the work with end-of-sequence ignored; counters worth reporting."""


class SystemProcess:
    """A system in a child process; `benchmarks.systems.child` is the other end.

    Requests and answers are lines of JSON on two pipes of their own, because the child may be another interpreter and
    may print what it likes.

    Args:
        make: a module-level function that loads the system; called in the child with `arguments`. Its module has to be
            importable in both interpreters, so that packages of a peer are imported inside its functions.
        threads: intra-op threads of the child.
        python: the child's interpreter; ours by default.
        environment: further environment variables.

    Raises:
        RuntimeError: the child failed or ended, here or in `run`; the message has the end of its output.
    """

    def __init__(
        self,
        name: str,
        make: Callable[..., System],
        arguments: Mapping[str, Any],
        threads: int,
        python: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open for as long as the child
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        command = [str(python or sys.executable), "-m", "benchmarks.systems.child"]
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs_in), str(theirs_out), make.__module__, make.__qualname__],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd=ROOT,
                env=child_environment(threads, environment),
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._to = os.fdopen(ours_out, "w")
        self._from = os.fdopen(ours_in)
        try:
            self._ask(dict(arguments))
        except BaseException:
            self.close(0)
            raise

    def run(self, work: Work) -> tuple[float, dict[str, float]]:
        """Seconds that the work took, and the system's counters."""
        seconds, counters = self._ask({"name": work.name, "prompts": work.prompts, "outputs": work.outputs})
        return seconds, counters

    def peak_rss_mb(self) -> float:
        """Peak resident memory of the child so far, in MiB."""
        peak: float = self._ask("memory")
        return peak

    def _ask(self, question: Any) -> Any:
        try:
            self._to.write(json.dumps(question, default=str) + "\n")
            self._to.flush()
            line = self._from.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait(10)
            raise RuntimeError(f"{self.name}: its process has ended: {self._said()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}: {self._said()}")
        return answer["answer"]

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:]

    def close(self, patience: float = 30) -> None:
        """End the child: it leaves when its pipe closes, and is killed when it does not within `patience` seconds."""
        for pipe in (self._to, self._from):
            with contextlib.suppress(BrokenPipeError):  # It has left already.
                pipe.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def child_environment(threads: int, further: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without what would lead a peer's interpreter into ours, and with the number of threads.

    How long idle threads spin is each system's own affair: what Lepton sets for itself is not passed on.
    """
    ours = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    return {**ours, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), **(further or {})}
