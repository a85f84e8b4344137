"""Clients that leave, cancel and come late, by the hundred: the engine is left without any of them."""

import asyncio
import random

import pytest

from lepton_service.client import AsyncLeptonClient, DeadlineExceededError, ResourceExhaustedError
from tests.service.e2e.serving import Serving


async def at_rest(client: AsyncLeptonClient) -> None:
    """Returns when nothing runs or waits and every block is free."""
    while True:
        stats = await client.stats()
        if stats.running == stats.waiting == 0 and stats.kv_blocks_free == stats.kv_blocks_total:
            assert stats.kv_blocks_referenced == 0
            assert stats.failed == 0
            return


async def test_many_streams_at_once_and_cancelled_ones_leave_nothing(served: Serving) -> None:
    async with AsyncLeptonClient(served.target) as client:
        before = await client.stats()

        async def whole(number: int) -> int:
            stream = client.generate([number % 256] * 20, max_tokens=30, ignore_eos=True)
            return sum([len(event.delta.token_ids) async for event in stream])

        async def cut(number: int) -> None:
            async with client.generate([number % 256] * 20, ignore_eos=True) as stream:
                async for event in stream:
                    if event.WhichOneof("event") == "delta":
                        return

        async def late(number: int) -> None:
            # A server that has measured its speed refuses what it cannot do in time.
            with pytest.raises((DeadlineExceededError, ResourceExhaustedError)):
                async for _ in client.generate([number % 256] * 500, ignore_eos=True, deadline=0.02):
                    pass

        works = [work(number) for number in range(16) for work in (whole, cut, late)]
        results = await asyncio.gather(*works)
        assert [result for result in results if result is not None] == [30] * 16
        await at_rest(client)
        after = await client.stats()
        assert after.finished - before.finished >= 16
        assert after.generated_tokens - before.generated_tokens >= 16 * 30


async def test_two_hundred_clients_that_disconnect_in_mid_stream_leave_nothing(served: Serving) -> None:
    async def visit(number: int) -> None:
        client = AsyncLeptonClient(served.target)
        stream = client.generate([number % 256] * 8, ignore_eos=True, n=1 + number % 3)
        async for event in stream:
            if event.WhichOneof("event") == "delta":
                break
        await client.close()  # the connection is gone, no word to the server

    async with AsyncLeptonClient(served.target) as watcher:
        before = (await watcher.stats()).aborted
        for first in range(0, 200, 20):
            await asyncio.gather(*(visit(number) for number in range(first, first + 20)))
        await at_rest(watcher)
        assert (await watcher.stats()).aborted > before


@pytest.mark.parametrize("seed", [1, 2])
async def test_calls_of_every_kind_with_random_ends_leave_nothing(served: Serving, seed: int) -> None:
    dice = random.Random(seed)
    async with AsyncLeptonClient(served.target) as client:

        async def stream(length: int, n: int, events: int) -> None:
            async with client.generate([dice.randrange(256)] * length, n=n, max_tokens=60, ignore_eos=True) as call:
                async for _ in call:
                    events -= 1
                    if events < 0:
                        return

        async def call(kind: str, length: int) -> None:
            options = {"top_logprobs": 3} if kind == "score" else {"max_tokens": 40, "logprobs": 2}
            await getattr(client, kind)([dice.randrange(256)] * length, **options)

        def work() -> asyncio.Task[None]:
            kind, length = dice.choice(["stream", "stream", "complete", "score"]), dice.randrange(2, 600)
            if kind == "stream":
                return asyncio.create_task(stream(length, dice.choice([1, 1, 3]), dice.choice([0, 1, 5, 1000])))
            return asyncio.create_task(call(kind, length))

        tasks = [work() for _ in range(64)]
        doomed = dice.sample(tasks, 32)
        for task in doomed:
            for _ in range(dice.randrange(4)):  # some before they are admitted, some in the middle
                await client.stats()
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in results if isinstance(error, Exception)] == []  # CancelledError is none
        await at_rest(client)
