"""Putting a stream's tokens together, for fewer and larger messages.

Without coalescing a stream reads the engine's iterator directly. Either way what comes while a message is written is
merged by the engine's front door, within a bound (`lepton_engine.backlog`), so that a slow reader gets fewer and larger
deltas.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from lepton_engine.outputs import CompletionOutput, RequestOutput


@dataclass(frozen=True)
class Coalescing:
    """How many tokens of one choice a delta waits for, and how long (seconds) at most."""

    max_tokens: int
    max_delay: float


def merge(into: CompletionOutput, news: CompletionOutput) -> None:
    """Appends one delta of a choice to another."""
    into.text += news.text
    into.token_ids.extend(news.token_ids)
    if news.logprobs is not None:
        if into.logprobs is None:
            into.logprobs = news.logprobs
        else:
            into.logprobs.extend(news.logprobs)
    into.cumulative_logprob = news.cumulative_logprob
    into.finish_reason = news.finish_reason
    into.stop_reason = news.stop_reason


async def coalesced(outputs: AsyncIterator[RequestOutput], coalescing: Coalescing) -> AsyncIterator[RequestOutput]:
    """The same deltas in fewer outputs: the first at once, then once a choice has enough tokens or the delay is over.

    One output is read ahead at most, by a task that ends with this generator; the iterator is its owner's to close.

    Raises:
        whatever ended the engine's outputs, once what came before has been given.
    """
    loop = asyncio.get_running_loop()
    pending, wanted, due = _Pending(), 1, math.inf
    reading = asyncio.ensure_future(_next(outputs))
    try:
        while True:
            await asyncio.wait({reading}, timeout=None if due == math.inf else max(0.0, due - loop.time()))
            ended = reading.done() and (reading.exception() is not None or reading.result() is None)
            if reading.done() and not ended:
                pending.add(reading.result())
                reading = asyncio.ensure_future(_next(outputs))
            if pending and (ended or pending.holds(wanted) or loop.time() >= due):
                yield pending.take()
                wanted, due = coalescing.max_tokens, math.inf
            elif pending and due == math.inf:
                due = loop.time() + coalescing.max_delay
            if ended:
                reading.result()
                return
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def _next(outputs: AsyncIterator[RequestOutput]) -> RequestOutput | None:
    return await anext(outputs, None)


class _Pending:
    """News of a request that wait for more."""

    def __init__(self) -> None:
        self._latest: RequestOutput | None = None
        self._deltas: dict[int, CompletionOutput] = {}

    def __bool__(self) -> bool:
        return bool(self._deltas)

    def add(self, output: RequestOutput | None) -> None:
        """Takes in one output."""
        if output is None:
            return
        self._latest = output
        for news in output.outputs:
            pending = self._deltas.get(news.index)
            if pending is None:
                self._deltas[news.index] = news
            else:
                merge(pending, news)

    def holds(self, tokens: int) -> bool:
        """Whether some choice has so many tokens, or has ended."""
        return any(delta.finished or len(delta.token_ids) >= tokens for delta in self._deltas.values())

    def take(self) -> RequestOutput:
        """All of it, one delta a choice; nothing waits after."""
        assert self._latest is not None
        deltas, self._deltas = list(self._deltas.values()), {}
        return replace(self._latest, outputs=deltas)
