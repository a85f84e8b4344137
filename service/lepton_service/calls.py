"""The call that a handler is in: what its access log tells, and how many there are."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Call:
    """What is worth logging of one call; servicers fill it in. Never holds prompt or output text."""

    method: str
    peer: str
    request_id: str = ""
    prompt_tokens: int | None = None
    generated_tokens: int | None = None


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
