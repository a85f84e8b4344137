"""Coalescing: what is put together, for how long, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lepton_engine.outputs import CompletionOutput, Logprob, RequestOutput
from lepton_service.flow import Coalescing, Mailbox, coalesced, merge

FOREVER = 1000.0


def output(*parts: CompletionOutput, finished: bool = False) -> RequestOutput:
    return RequestOutput("id", None, [1], list(parts), finished)


def part(text: str, index: int = 0, reason: str | None = None) -> CompletionOutput:
    return CompletionOutput(index, text, [ord(letter) for letter in text], finish_reason=reason)


def texts(news: RequestOutput | None) -> dict[int, str]:
    assert news is not None
    return {delta.index: delta.text for delta in news.outputs}


def test_merging_appends_and_takes_the_later_end() -> None:
    into = CompletionOutput(0, "a", [1], [{1: Logprob(-1.0, 1)}])
    merge(into, CompletionOutput(0, "b", [2], [{2: Logprob(-2.0, 1)}], -3.0, "stop", "b"))
    assert (into.text, into.token_ids, into.finish_reason, into.stop_reason) == ("ab", [1, 2], "stop", "b")
    assert into.logprobs == [{1: Logprob(-1.0, 1)}, {2: Logprob(-2.0, 1)}]
    assert into.cumulative_logprob == -3.0


async def test_the_first_is_given_at_once_the_rest_when_there_is_enough() -> None:
    box = Mailbox(Coalescing(3, FOREVER))
    box.put(output(part("a")))
    assert texts(await box.take()) == {0: "a"}
    box.put(output(part("b")))
    box.put(output(part("c")))
    taking = asyncio.ensure_future(box.take())
    await asyncio.sleep(0)
    assert not taking.done()
    box.put(output(part("d")))
    assert texts(await taking) == {0: "bcd"}


async def test_the_delay_is_the_most_that_a_token_waits() -> None:
    box = Mailbox(Coalescing(100, 0.01))
    box.put(output(part("a")))
    await box.take()
    box.put(output(part("b")))
    assert texts(await box.take()) == {0: "b"}


async def test_the_end_of_a_choice_is_not_held_back() -> None:
    box = Mailbox(Coalescing(100, FOREVER))
    box.put(output(part("a"), part("x", 1)))
    await box.take()
    box.put(output(part("b", reason="stop"), part("y", 1)))
    news = await box.take()
    assert texts(news) == {0: "b", 1: "y"}
    assert news is not None
    assert news.outputs[0].finished


async def endless(made: list[str], closed: asyncio.Event) -> AsyncIterator[RequestOutput]:
    try:
        for letter in made:
            yield output(part(letter))
        await asyncio.Event().wait()
    finally:
        closed.set()


async def test_leaving_the_generator_ends_the_engines_iterator() -> None:
    closed = asyncio.Event()
    merged: Any = coalesced(endless(["a"], closed), Coalescing(2, FOREVER))
    assert texts(await anext(merged)) == {0: "a"}
    await merged.aclose()
    assert closed.is_set()


async def failing() -> AsyncIterator[RequestOutput]:
    yield output(part("a"))
    yield output(part("b"))
    raise ValueError("broken")


async def test_an_error_comes_behind_what_came_before_it() -> None:
    seen: list[str] = []

    async def read() -> None:
        async for news in coalesced(failing(), Coalescing(10, FOREVER)):
            seen.extend(texts(news).values())

    with pytest.raises(ValueError, match="broken"):
        await read()
    assert "".join(seen) == "ab"


async def test_an_empty_output_is_no_news(eventually: Callable[..., Any]) -> None:
    box = Mailbox(Coalescing(2, FOREVER))
    box.put(output())
    taking = asyncio.ensure_future(box.take())
    await asyncio.sleep(0)
    assert not taking.done()
    box.put(output(part("a")))
    assert texts(await taking) == {0: "a"}
