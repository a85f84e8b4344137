"""Runs a system in a child process: load once, then one work after the other."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol, Self

from benchmarks.works import Work


class System(Protocol):
    """Something that generates tokens."""

    def run(self, work: Work) -> dict[str, float]:
        """Do the work with end-of-sequence ignored; counters worth reporting."""


class SystemProcess:
    """A system in a child process.

    Args:
        make: a module-level function that loads the system; called in the child with `arguments`.
        threads: intra-op threads of the child.
    """

    def __init__(self, name: str, make: Callable[..., System], arguments: dict[str, Any], threads: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        try:
            self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=False)
            self._process.start()
        finally:
            os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
        theirs.close()
        self._receive()

    def run(self, work: Work) -> tuple[float, dict[str, float]]:
        """Seconds that the work took, and the system's counters."""
        self._pipe.send(work)
        seconds, counters = self._receive()
        return seconds, counters

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.name}: its process has ended") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def peak_rss_mb(self) -> float:
        """Peak resident memory of the child so far, in MiB."""
        self._pipe.send("memory")
        peak: float = self._receive()
        return peak

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe: Connection, make: Callable[..., System], arguments: dict[str, Any]) -> None:
    try:
        system = make(**arguments)
        pipe.send("ready")
        while True:
            task = pipe.recv()
            if task == "memory":
                pipe.send(_peak_rss_mb())
                continue
            began = time.perf_counter()
            counters = system.run(task)
            pipe.send((time.perf_counter() - began, counters))
    except EOFError:
        return
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
        raise


def _peak_rss_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
