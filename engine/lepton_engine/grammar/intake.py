"""Requests whose constraint is being compiled: apart from the loop, so that nobody else waits for it."""

from __future__ import annotations  # llguidance comes with the compiler, and is imported at the first constraint

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lepton_engine.core.request import Request
from lepton_engine.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    LeptonError,
    QueueFullError,
    UnsupportedError,
)
from lepton_engine.grammar.matcher import Grammar
from lepton_engine.structured_outputs import FIELD, StructuredOutputs

if TYPE_CHECKING:
    from lepton_engine.grammar.compiler import GrammarCompiler

THREADS = 2
MAX_COMPILING = 256
MAX_SECONDS = 20.0
POLL_SECONDS = 0.002


@dataclass
class _Job:
    """A request and the work for it. started: `time.monotonic` seconds, when a thread has taken it up."""

    request: Request
    request_id: str
    future: Future[Grammar]
    started: float | None = None


class GrammarIntake:
    """Compiles constraints in threads and hands their requests on when they are ready.

    Args:
        load: makes the model's compiler; called once, in a thread.
        max_seconds: the longest that one may compile; llguidance's own limits should end it well before.
    """

    def __init__(self, load: Callable[[], GrammarCompiler], max_seconds: float = MAX_SECONDS) -> None:
        self._load = load
        self._loading = threading.Lock()
        self._compiler: GrammarCompiler | None = None
        self._max_seconds = max_seconds
        self._jobs: dict[str, _Job] = {}
        self._threads: ThreadPoolExecutor | None = None

    @classmethod
    def without_tokenizer(cls) -> GrammarIntake:
        """One that refuses every constraint: for models whose tokens have no text."""

        def refuse() -> GrammarCompiler:
            raise UnsupportedError(FIELD, "needs the tokenizer of the model, which the engine was not given")

        return cls(refuse)

    def __contains__(self, key: str) -> bool:
        return key in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def keys_of(self, client: str) -> list[str]:
        """The waiting requests of a client."""
        return [key for key, job in self._jobs.items() if job.request.client == client]

    def add(self, request: Request, request_id: str = "") -> bool:
        """Constrain a request; False when it must wait for its grammar, and will come out of `ready`.

        Args:
            request_id: the client's name for it, which comes out with it.

        Raises:
            QueueFullError: too many are being compiled.
        """
        constraint = request.params.structured_outputs
        if constraint is None:
            return True
        grammar = None if self._compiler is None else self._compiler.cached(constraint, request.tenant)
        if grammar is not None:
            request.constrain(grammar)
            return True
        if len(self._jobs) >= MAX_COMPILING:
            raise QueueFullError(f"{len(self._jobs)} constraints are being compiled, which is the most", 1.0)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lepton-grammar-compiler")
        job = _Job(request, request_id, Future())
        self._jobs[request.key] = job
        job.future = self._threads.submit(self._work, job, constraint)
        return False

    def _work(self, job: _Job, constraint: StructuredOutputs) -> Grammar:
        with self._loading:
            if self._compiler is None:
                self._compiler = self._load()
        job.started = time.monotonic()
        return self._compiler.compile(constraint, job.request.tenant)

    def cancel(self, key: str) -> Request | None:
        """Forget a request, which is returned if it was there; what has begun to compile goes on to its end."""
        job = self._jobs.pop(key, None)
        if job is None:
            return None
        job.future.cancel()
        return job.request

    def ready(self, now: float) -> Iterator[tuple[Request, str, LeptonError | None]]:
        """The requests that wait no longer, each with its client's name: constrained, or with why they cannot be run.

        Args:
            now: in `time.monotonic` seconds.
        """
        for key, job in list(self._jobs.items()):
            request = job.request
            error: LeptonError | None = None
            if request.deadline is not None and request.deadline <= now:
                error = DeadlineExceededError("the deadline passed while the constraint was being compiled")
                job.future.cancel()
            elif job.future.done():
                error = self._constrain(job)
            elif job.started is not None and now - job.started > self._max_seconds:
                error = self._too_long(request)
            else:
                continue
            del self._jobs[key]
            yield request, job.request_id, error

    def _constrain(self, job: _Job) -> LeptonError | None:
        error = job.future.exception()
        if error is None:
            job.request.constrain(job.future.result())
            return None
        if isinstance(error, LeptonError):
            return error
        raise error

    def _too_long(self, request: Request) -> LeptonError:
        constraint = request.params.structured_outputs
        field = FIELD if constraint is None else constraint.field
        return InvalidRequestError(field, f"takes more than {self._max_seconds:g} s to compile")

    def close(self) -> None:
        """Take no more; threads end with what they have begun."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
