"""The call that a handler is in: what its access log tells, and how many there are."""

import asyncio
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

from lepton_engine.outputs import CompletionOutput, RequestMetrics, RequestOutput
from lepton_engine.sampling_params import SamplingParams
from lepton_service.auth.principal import Principal


@dataclass
class Call:
    """What is worth telling of one call; servicers fill it in. Never holds prompt or output text.

    Attributes:
        tenant: whose call it is. principal: who sends it; None where no credential is asked for.
        trace_id: of its trace, where it has one.
        operation: what the model is asked for: chat, text_completion or score; empty for calls that do not ask it.
        params: how tokens are chosen; None for calls that generate nothing. streamed: whether the answer is a stream.
        admitted: when the engine took it in, in seconds since the epoch.
        finish_reasons: of the choices that have ended, by index. metrics: the engine's times of the request.
    """

    method: str
    peer: str
    request_id: str = ""
    tenant: str = ""
    principal: Principal | None = None
    trace_id: str = ""
    operation: str = ""
    params: SamplingParams | None = None
    streamed: bool = False
    admitted: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int | None = None
    finish_reasons: dict[int, str] = field(default_factory=dict)
    metrics: RequestMetrics | None = None

    def note_output(self, output: RequestOutput) -> None:
        """Takes over what an output of the request tells."""
        self.metrics = output.metrics
        self.cached_tokens = output.num_cached_tokens
        self.note_ends(output.outputs)

    def note_ends(self, parts: Iterable[CompletionOutput]) -> None:
        """Takes over why choices have ended."""
        for part in parts:
            if part.finish_reason is not None:
                self.finish_reasons[part.index] = part.finish_reason


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


class CallTracker:
    """Counts the calls in flight. The server's own stop() misses handlers that were aborted (grpc#37239)."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def count(self) -> int:
        """Calls in flight."""
        return self._count

    def enter(self) -> None:
        """A call begins."""
        self._count += 1
        self._idle.clear()

    def leave(self) -> None:
        """A call has ended."""
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    async def idle(self) -> None:
        """Returns when no call is in flight."""
        await self._idle.wait()
