"""Between the engine and the wire: a mailbox that merges what a slow reader has not taken yet."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

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


class Mailbox:
    """Deltas of one request: the engine's side never waits, the reader's side takes all there is at once.

    Holds at most one delta a choice, which grows to a request's whole output at most, however slow the reader is.

    Attributes:
        latest: the last output that arrived, for what is known of the request as a whole; None before the first.
    """

    def __init__(self, coalescing: Coalescing | None = None) -> None:
        self.latest: RequestOutput | None = None
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
        self.latest = output
        for news in output.outputs:
            pending = self._pending.get(news.index)
            if pending is None:
                self._pending[news.index] = news
            else:
                merge(pending, news)
        self._arrived.set()

    async def take(self) -> list[CompletionOutput]:
        """Waits for news and returns them, one a choice in the order of their arrival; empty at the end.

        Raises:
            whatever ended the engine's outputs, once what came before has been taken.
        """
        while True:
            if not self._pending and not self._ended:
                self._arrived.clear()
                await self._arrived.wait()
            if self._coalescing is not None and self._taken:
                await self._gather(self._coalescing)
            if self._pending:
                self._taken = True
                news = list(self._pending.values())
                self._pending = {}
                return news
            if self._ended:
                if self._error is not None:
                    raise self._error
                return []

    async def _gather(self, coalescing: Coalescing) -> None:
        """Waits until some choice has enough tokens or has ended, or the delay is over."""
        try:
            async with asyncio.timeout(coalescing.max_delay):
                while not self._ended and not any(
                    delta.finished or len(delta.token_ids) >= coalescing.max_tokens for delta in self._pending.values()
                ):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return
