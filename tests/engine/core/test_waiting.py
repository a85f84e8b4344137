import random

from lepton_engine.core.request import Request, Sequence
from lepton_engine.core.waiting import WaitingQueue
from lepton_engine.sampling_params import SamplingParams


def sequence(arrival: int, priority: int = 0) -> Sequence:
    request = Request(str(arrival), [1], SamplingParams(), arrival, 0.0, 0, 1, priority=priority)
    return request.sequences[0]


def drain(queue: WaitingQueue) -> list[Sequence]:
    found = []
    while (head := queue.head()) is not None:
        queue.discard(head)
        found.append(head)
    return found


def test_priority_then_arrival() -> None:
    queue = WaitingQueue()
    sequences = [sequence(0, 1), sequence(1), sequence(2, -1), sequence(3), sequence(4, 1)]
    for each in reversed(sequences):
        queue.push(each)
    assert [each.request.arrival for each in drain(queue)] == [2, 1, 3, 0, 4]
    assert queue.head() is None


def test_what_was_removed_does_not_come_and_may_come_back() -> None:
    queue = WaitingQueue()
    first, second = sequence(0), sequence(1)
    queue.push(first)
    queue.push(second)
    queue.discard(first)
    queue.discard(first)
    assert (len(queue), queue.head()) == (1, second)
    queue.push(first)
    assert (len(queue), queue.head()) == (2, first)
    assert drain(queue) == [first, second]
    assert len(queue) == 0


def test_against_a_sorted_list_and_without_growing() -> None:
    draw = random.Random(0)
    queue = WaitingQueue()
    everyone = [sequence(i, draw.randint(0, 2)) for i in range(300)]
    inside: set[Sequence] = set()
    for _ in range(20_000):
        each = draw.choice(everyone)
        if each in inside:
            queue.discard(each)
            inside.remove(each)
        elif draw.random() < 0.3:
            queue.push(each)
            inside.add(each)
        if draw.random() < 0.2:
            assert queue.head() is min(inside, key=lambda s: s.order, default=None)
        assert len(queue) == len(inside)
        assert len(queue._heap) <= 2 * len(inside) + 300


def test_a_queue_that_was_emptied_from_its_middle_keeps_nothing() -> None:
    queue = WaitingQueue()
    everyone = [sequence(i) for i in range(10_000)]
    for each in everyone:
        queue.push(each)
    for each in everyone[1:]:
        queue.discard(each)
    assert queue.head() is everyone[0]
    assert len(queue._heap) < 100
