"""Coalescing: what is put together, for how long, and what ends it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lepton_engine.outputs import CompletionOutput, Logprob, RequestOutput
from lepton_service.flow import Coalescing, coalesced, merge

FOREVER = 1000.0
AT_ONCE = 0.001


def output(*parts: CompletionOutput, finished: bool = False) -> RequestOutput:
    return RequestOutput("id", None, [1], list(parts), finished)


def part(text: str, index: int = 0, reason: str | None = None) -> CompletionOutput:
    return CompletionOutput(index, text, [ord(letter) for letter in text], finish_reason=reason)


def texts(news: RequestOutput) -> dict[int, str]:
    return {delta.index: delta.text for delta in news.outputs}


class Source:
    """An engine's iterator: gives what it is told to, counts what is asked of it."""

    def __init__(self, *outputs: RequestOutput | BaseException | None) -> None:
        self.queue: asyncio.Queue[RequestOutput | BaseException | None] = asyncio.Queue()
        for given in outputs:
            self.queue.put_nowait(given)
        self.asked = 0
        self.closed = False

    async def outputs(self) -> AsyncIterator[RequestOutput]:
        try:
            while True:
                self.asked += 1
                given = await self.queue.get()
                if given is None:
                    return
                if isinstance(given, BaseException):
                    raise given
                yield given
        finally:
            self.closed = True


def merged(source: Source, tokens: int, delay: float) -> Any:
    return coalesced(source.outputs(), Coalescing(tokens, delay))


def test_merging_appends_and_takes_the_later_end() -> None:
    into = CompletionOutput(0, "a", [1], [{1: Logprob(-1.0, 1)}])
    merge(into, CompletionOutput(0, "b", [2], [{2: Logprob(-2.0, 1)}], -3.0, "stop", "b"))
    assert (into.text, into.token_ids, into.finish_reason, into.stop_reason) == ("ab", [1, 2], "stop", "b")
    assert into.logprobs == [{1: Logprob(-1.0, 1)}, {2: Logprob(-2.0, 1)}]
    assert into.cumulative_logprob == -3.0


async def test_the_first_is_given_at_once_the_rest_when_there_is_enough(eventually: Any) -> None:
    source = Source(output(part("a")), output(part("b")), output(part("c")))
    stream = merged(source, 3, FOREVER)
    assert texts(await anext(stream)) == {0: "a"}
    taking = asyncio.ensure_future(anext(stream))
    await eventually(source.queue.empty)
    assert not taking.done()
    source.queue.put_nowait(output(part("d")))
    assert texts(await taking) == {0: "bcd"}
    await stream.aclose()


async def test_the_delay_is_the_most_that_a_token_waits() -> None:
    stream = merged(Source(output(part("a")), output(part("b"))), 100, AT_ONCE)
    assert texts(await anext(stream)) == {0: "a"}
    assert texts(await anext(stream)) == {0: "b"}
    await stream.aclose()


async def test_the_delay_begins_with_what_waits_not_with_the_wait() -> None:
    source = Source(output(part("a")))
    stream = merged(source, 100, AT_ONCE)
    await anext(stream)
    taking = asyncio.ensure_future(anext(stream))
    done, _ = await asyncio.wait({taking}, timeout=10 * AT_ONCE)
    assert not done
    source.queue.put_nowait(output(part("b")))
    assert texts(await taking) == {0: "b"}
    await stream.aclose()


async def test_the_end_of_a_choice_is_not_held_back() -> None:
    first = output(part("a"), part("x", 1))
    stream = merged(Source(first, output(part("b", reason="stop"), part("y", 1))), 100, FOREVER)
    await anext(stream)
    news = await anext(stream)
    assert texts(news) == {0: "b", 1: "y"}
    assert news.outputs[0].finished
    await stream.aclose()


async def test_leaving_the_generator_leaves_the_engines_iterator_to_be_closed() -> None:
    source = Source(output(part("a")))
    outputs: Any = source.outputs()
    stream: Any = coalesced(outputs, Coalescing(2, FOREVER))
    assert texts(await anext(stream)) == {0: "a"}
    await stream.aclose()
    await outputs.aclose()
    assert source.closed


async def test_cancelling_who_waits_ends_the_engines_iterator(eventually: Any) -> None:
    source = Source()
    taking = asyncio.ensure_future(anext(merged(source, 2, FOREVER)))
    await eventually(lambda: source.asked)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert source.closed


async def test_an_error_comes_behind_what_came_before_it() -> None:
    stream = merged(Source(output(part("a")), output(part("b")), ValueError("broken")), 10, FOREVER)
    assert texts(await anext(stream)) == {0: "a"}
    assert texts(await anext(stream)) == {0: "b"}
    with pytest.raises(ValueError, match="broken"):
        await anext(stream)


async def test_the_end_gives_what_waits() -> None:
    stream = merged(Source(output(part("a")), output(part("b")), None), 10, FOREVER)
    assert [texts(news) async for news in stream] == [{0: "a"}, {0: "b"}]


async def test_an_empty_output_is_no_news() -> None:
    source = Source(output(), output(part("a")))
    stream = merged(source, 2, FOREVER)
    assert texts(await anext(stream)) == {0: "a"}
    await stream.aclose()


async def test_while_nobody_asks_only_one_output_is_read_ahead() -> None:
    source = Source(*(output(part("a")) for _ in range(100)))
    stream = merged(source, 2, FOREVER)
    await anext(stream)
    for _ in range(50):
        await asyncio.sleep(0)
    assert source.asked <= 3
    await stream.aclose()
