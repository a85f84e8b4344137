"""The keyed queue: order, urgency, no key twice at once."""

import random

import pytest

from lepton_operator.queue import KeyedQueue


async def taken(queue: KeyedQueue[str], count: int) -> list[str]:
    return [(await queue.take())[0] for _ in range(count)]


async def test_keys_come_in_order_and_once() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    for key in "abcab":
        queue.add(key)
    assert len(queue) == 3
    assert await taken(queue, 3) == ["a", "b", "c"]


async def test_urgent_keys_come_first_also_those_that_were_due() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    for key in "abc":
        queue.add(key)
    queue.add("d", urgent=True)
    queue.add("b", urgent=True)
    queue.add("d")
    assert len(queue) == 4
    assert await taken(queue, 4) == ["d", "b", "a", "c"]
    assert len(queue) == 0


@pytest.mark.parametrize("urgent", [False, True])
async def test_a_key_that_comes_while_it_is_worked_on_comes_again(urgent: bool) -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    await queue.take()
    queue.add("a", urgent=urgent)
    queue.add("a")
    queue.add("b")
    assert len(queue) == 1, "it is not worked on twice at once"
    queue.done("a")
    assert await taken(queue, 2) == (["a", "b"] if urgent else ["b", "a"])
    queue.done("a")
    assert len(queue) == 0


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_lost(seed: int) -> None:
    dice = random.Random(seed)
    queue: KeyedQueue[str] = KeyedQueue()
    working: set[str] = set()
    wanted: set[str] = set()
    for _ in range(2000):
        key = dice.choice("abcdefgh")
        if dice.random() < 0.5:
            queue.add(key, urgent=dice.random() < 0.3)
            wanted.add(key)
        elif working and dice.random() < 0.5:
            done = dice.choice(sorted(working))
            working.remove(done)
            queue.done(done)
        elif len(queue):
            key, _ = await queue.take()
            assert key not in working
            assert key in wanted
            working.add(key)
            wanted.remove(key)
    for key in working:
        queue.done(key)
    assert set(await taken(queue, len(queue))) == wanted
