"""Priority, fairness between tenants, arrival; and what the queue costs."""

import random

from lepton_engine.core.fair_queue import FairQueue
from lepton_engine.core.request import Request, Sequence
from lepton_engine.core.virtual_counters import MAX_COUNTERS, VirtualCounters
from lepton_engine.sampling_params import SamplingParams


def sequence(arrival: int, priority: int = 0, tenant: str = "", length: int = 1) -> Sequence:
    request = Request(
        str(arrival), [1] * length, SamplingParams(), arrival, 0.0, 0, 1, priority=priority, tenant=tenant
    )
    return request.sequences[0]


def drain(queue: FairQueue) -> list[Sequence]:
    found = []
    while (head := queue.head()) is not None:
        queue.discard(head)
        found.append(head)
    return found


def test_priority_then_arrival() -> None:
    queue = FairQueue(VirtualCounters())
    sequences = [sequence(0, 1), sequence(1), sequence(2, -1), sequence(3), sequence(4, 1)]
    for each in reversed(sequences):
        queue.push(each)
    assert [each.request.arrival for each in drain(queue)] == [2, 1, 3, 0, 4]
    assert queue.head() is None


def test_what_was_removed_does_not_come_and_may_come_back() -> None:
    queue = FairQueue(VirtualCounters())
    first, second = sequence(0), sequence(1)
    queue.push(first)
    queue.push(second)
    queue.discard(first)
    queue.discard(first)
    assert (len(queue), queue.head()) == (1, second)
    queue.push(first)
    assert (len(queue), queue.head()) == (2, first)
    assert queue.ahead((0, "")) == (2, 2)
    assert drain(queue) == [first, second]
    assert len(queue) == 0
    assert queue.ahead((0, "")) == (0, 0)


def test_against_a_search_through_all_and_without_growing() -> None:
    draw = random.Random(0)
    counters = VirtualCounters()
    queue = FairQueue(counters)
    everyone = [sequence(i, draw.randint(0, 2), draw.choice("abcd")) for i in range(300)]
    inside: set[Sequence] = set()
    for _ in range(20_000):
        each = draw.choice(everyone)
        if each in inside:
            (queue.take if draw.random() < 0.5 else queue.discard)(each)
            inside.remove(each)
        elif draw.random() < 0.3:
            queue.push(each)
            inside.add(each)
        if draw.random() < 0.3:
            counters.charge(draw.choice(everyone).request.lane, draw.randint(1, 9))
        if draw.random() < 0.2:
            best = min(inside, key=lambda s: (s.request.priority, counters.of(s.request.lane)), default=None)
            head = queue.head()
            assert (head is None) == (best is None)
            if head is not None and best is not None:
                assert head.request.priority == best.request.priority
                assert counters.of(head.request.lane) == counters.of(best.request.lane)
                assert head is min((s for s in inside if s.request.lane == head.request.lane), key=lambda s: s.order)
        assert len(queue) == len(inside)
        lines = [line for level in queue._levels.values() for line in level.values()]
        assert sum(len(line._heap) for line in lines) <= 2 * len(inside) + 65 * len(lines)
        assert {s.request.lane for s in inside} <= {(p, t) for p, level in queue._least.items() for _, t in level}
        assert all(len(least) <= 2 * 4 + 65 for least in queue._least.values())


def test_a_queue_that_was_emptied_from_its_middle_keeps_nothing() -> None:
    queue = FairQueue(VirtualCounters())
    everyone = [sequence(i) for i in range(10_000)]
    for each in everyone:
        queue.push(each)
    for each in everyone[1:]:
        queue.discard(each)
    assert queue.head() is everyone[0]
    assert len(queue._levels[0][""]._heap) < 100


def serve(queue: FairQueue, counters: VirtualCounters, count: int) -> list[str]:
    """The tenants of the next sequences to run, each charged for its prompt."""
    served = []
    for _ in range(count):
        head = queue.head()
        assert head is not None
        queue.take(head)
        counters.charge(head.request.lane, head.num_prompt)
        served.append(head.request.tenant)
    return served


def test_tenants_take_turns_by_tokens_not_by_requests() -> None:
    counters = VirtualCounters()
    queue = FairQueue(counters)
    for arrival in range(60):
        queue.push(sequence(arrival, tenant="long", length=40))
    for arrival in range(60, 120):
        queue.push(sequence(arrival, tenant="short", length=10))
    served = serve(queue, counters, 50)
    assert served.count("long") == 10
    assert served.count("short") == 40


def test_who_comes_late_goes_first_but_has_no_claim_on_the_past() -> None:
    counters = VirtualCounters()
    queue = FairQueue(counters)
    for arrival in range(1000):
        queue.push(sequence(arrival, tenant="flood", length=10))
    serve(queue, counters, 500)
    for arrival in range(1000, 1100):
        queue.push(sequence(arrival, tenant="late", length=10))
    served = serve(queue, counters, 20)
    assert served[0] == "late"
    assert 9 <= served.count("late") <= 11


def test_priority_goes_before_fairness() -> None:
    counters = VirtualCounters()
    queue = FairQueue(counters)
    queue.push(sequence(0, priority=0, tenant="late"))
    counters.charge((-1, "flood"), 1e6)
    queue.push(sequence(1, priority=-1, tenant="flood"))
    assert serve(queue, counters, 2) == ["flood", "late"]


def test_counters_of_passing_tenants_do_not_pile_up() -> None:
    counters = VirtualCounters()
    queue = FairQueue(counters)
    for arrival in range(3 * MAX_COUNTERS):
        queue.push(sequence(arrival, tenant=str(arrival), length=10))
        serve(queue, counters, 1)
    assert len(counters._served) <= MAX_COUNTERS + 1
    assert counters.of((0, "never seen")) == counters.of((0, "nor this"))


def test_very_many_tenants_come_and_go() -> None:
    queue = FairQueue(VirtualCounters())
    everyone = [sequence(i, tenant=str(i)) for i in range(20_000)]
    for each in everyone:
        queue.push(each)
    for each in reversed(everyone[1:]):
        queue.discard(each)
    assert queue.head() is everyone[0]
    assert len(queue._least[0]) < 100


def test_all_start_anew_when_nothing_is_left() -> None:
    counters = VirtualCounters()
    counters.charge((0, "flood"), 1e6)
    counters.rest()
    counters.join((0, "other"))
    assert counters.of((0, "flood")) == counters.of((0, "other"))
