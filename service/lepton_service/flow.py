"""Putting a stream's tokens together, for fewer and larger messages.

Without coalescing a stream reads the engine's iterator directly. What comes while a message is written is merged there
into the next output, so that a slow reader gets fewer and larger deltas, and its memory is bounded by the output.
"""

import asyncio
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

    The iterator is read by a task of its own, which ends with this generator.
    """
    mailbox = Mailbox(coalescing)
    pump = asyncio.create_task(mailbox.fill(outputs))
    try:
        while (output := await mailbox.take()) is not None:
            yield output
    finally:
        pump.cancel()
        await asyncio.wait({pump})


class Mailbox:
    """Deltas of one request: the engine's side never waits, the reader's side takes all there is at once.

    Holds at most one delta a choice, which grows to a request's whole output at most, however slow the reader is.
    """

    def __init__(self, coalescing: Coalescing) -> None:
        self._latest: RequestOutput | None = None
        self._coalescing = coalescing
        self._pending: dict[int, CompletionOutput] = {}
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._taken = False

    async def fill(self, outputs: AsyncIterator[RequestOutput]) -> None:
        """Takes in everything that the engine gives, then ends; an error of the engine is kept for `take`."""
        try:
            async for output in outputs:
                self.put(output)
        except Exception as error:  # handed to the reader, in order behind what came before it
            self._error = error
        finally:
            self._ended = True
            self._arrived.set()

    def put(self, output: RequestOutput) -> None:
        """Takes in one output."""
        self._latest = output
        if not output.outputs:
            return
        for news in output.outputs:
            pending = self._pending.get(news.index)
            if pending is None:
                self._pending[news.index] = news
            else:
                merge(pending, news)
        self._arrived.set()

    async def take(self) -> RequestOutput | None:
        """Waits for news and returns them, one delta a choice; None at the end.

        Raises:
            whatever ended the engine's outputs, once what came before has been taken.
        """
        if not self._pending and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        if self._taken:
            await self._gather()
        if self._pending and self._latest is not None:
            self._taken = True
            news, self._pending = list(self._pending.values()), {}
            return replace(self._latest, outputs=news)
        if self._error is not None:
            raise self._error
        return None

    async def _gather(self) -> None:
        """Waits until some choice has enough tokens or has ended, or the delay is over."""
        try:
            async with asyncio.timeout(self._coalescing.max_delay):
                while not self._ended and not self._enough():
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return

    def _enough(self) -> bool:
        wanted = self._coalescing.max_tokens
        return any(delta.finished or len(delta.token_ids) >= wanted for delta in self._pending.values())
