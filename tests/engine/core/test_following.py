"""Followers of a shared prefix: whatever happens to the leader, another takes over and nobody waits for ever."""

import pytest

from lepton_engine.core.request import Request, SequenceState
from lepton_engine.errors import RequestFailedError
from tests.engine.core.device import Fault
from tests.engine.core.loop import Loop

PREFIX = [1, 2, 3, 0] * 4


def led(loop: Loop, count: int = 3) -> list[Request]:
    """Requests of which the first leads in mid-prefill and the others follow."""
    requests = [loop.add([*PREFIX, i]) for i in range(count)]
    loop.step()
    assert requests[0].sequences[0].leads
    assert {r.sequences[0].state for r in requests[1:]} == {SequenceState.FOLLOWING}
    return requests


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("end", ["abort", "fail", "invalid", "crash", "deadline"])
def test_when_the_leader_ends_the_next_takes_over(end: str, overlap: bool) -> None:
    loop = Loop(budget=8, chunk=4, overlap=overlap)
    requests = led(loop)
    key = requests[0].key
    if end == "abort":
        loop.scheduler.abort(key)
    elif end == "fail":
        loop.scheduler.fail(key, RequestFailedError("no"), forget=True)
    elif end == "deadline":
        requests[0].deadline = loop.now
        loop.scheduler._timers.add(loop.now, key)
    elif end == "crash":
        loop.step(lambda plan: Fault(crash="result"))
        loop.step()
    elif end == "invalid":
        while requests[0].key in loop.scheduler:
            loop.step(lambda plan: Fault(nan=set(range(len(plan.samples)))))
    loop.run()
    assert loop.told[key].error is not None or loop.told[key].reasons == {0: "abort"}
    for request in requests[1:]:
        if request.key not in loop.faulty:
            loop.assert_right(request)
    loop.assert_drained()


def test_the_oldest_follower_takes_over_and_the_others_follow_it() -> None:
    loop = Loop(budget=8, chunk=4)
    first, second, third = led(loop)
    loop.scheduler.abort(first.key)
    loop.step()
    assert second.sequences[0].state is SequenceState.RUNNING
    assert third.sequences[0].state is SequenceState.FOLLOWING
    assert loop.told[second.key].cached == 4  # What the first had computed is not computed again.
    loop.run()
    assert loop.told[third.key].cached == 16


def test_when_the_leader_is_preempted_who_comes_first_leads() -> None:
    loop = Loop(budget=8, chunk=4, max_num_seqs=2, num_blocks=12)
    leader, follower = (loop.add([*PREFIX, i], priority=1) for i in range(2))
    loop.step()
    assert follower.sequences[0].state is SequenceState.FOLLOWING
    urgent = loop.add([2] * 30, priority=0)
    loop.step()
    assert leader.num_preemptions == 1
    loop.step()
    assert {s.state for s in (leader.sequences[0], follower.sequences[0])} == {SequenceState.WAITING}
    loop.run()
    for request in (leader, follower, urgent):
        loop.assert_right(request)
    assert loop.scheduler.computed_tokens < 30 + 4 + 2 * 17 + 2 * 4 + 4
    loop.assert_drained()


def test_nobody_follows_a_leader_of_worse_priority() -> None:
    """It would be served only after all that its follower goes before."""
    loop = Loop(budget=8, chunk=4)
    loop.add([*PREFIX, 0], priority=5)
    loop.step()
    urgent = loop.add([*PREFIX, 1], priority=0)
    loop.step()
    assert urgent.sequences[0].state is SequenceState.RUNNING
    assert (
        loop.told[urgent.key].cached == 4
    )  # What the other had computed by then: the urgent one goes first in the step as well.
    loop.run()
    loop.assert_drained()


@pytest.mark.parametrize("whose", ["follower", "all"])
def test_a_follower_that_is_cancelled_leaves_nothing(whose: str) -> None:
    loop = Loop(budget=8, chunk=4)
    requests = led(loop)
    for request in requests if whose == "all" else requests[1:]:
        loop.scheduler.abort(request.key)
    assert not loop.cache._followers
    assert loop.scheduler.num_waiting == 0
    loop.run()
    loop.assert_drained()
    assert not loop.cache._leaders


def test_a_follower_that_is_cancelled_after_it_was_woken_stays_away() -> None:
    loop = Loop(budget=8, chunk=4)
    first, second, _ = led(loop)
    loop.scheduler.abort(first.key)  # Wakes the others at the next step.
    loop.scheduler.abort(second.key)
    loop.run()
    assert loop.told[second.key].reasons == {0: "abort"}
    loop.assert_drained()


def test_followers_bound_what_a_step_looks_at() -> None:
    """Followers will want slots as well: no more wait for a prefix than could run with it."""
    loop = Loop(budget=8, chunk=4, max_num_seqs=4)
    requests = [loop.add([*PREFIX, i % 4]) for i in range(50)]
    loop.step()
    assert sum(r.sequences[0].state is SequenceState.FOLLOWING for r in requests) == 3
    loop.run()
    assert loop.scheduler.computed_tokens == len(PREFIX) + 50 * (1 + 3)
    for request in requests:
        loop.assert_right(request)


def test_followers_of_several_prefixes_each_follow_the_deepest() -> None:
    loop = Loop(budget=8)
    requests = [loop.add(p) for p in ([*PREFIX, 0], [*PREFIX[:8], 3, 3, 3, 3, 1], [*PREFIX[:8], 3, 3, 3, 3, 2])]
    loop.run()
    assert [loop.told[r.key].cached for r in requests] == [0, 8, 12]
    assert loop.scheduler.computed_tokens == 17 + 5 + 1 + 3 * 3
    for request in requests:
        loop.assert_right(request)


def test_scores_lead_but_do_not_follow() -> None:
    loop = Loop(budget=8, chunk=4)
    requests = [loop.add([*PREFIX, 0], prompt_logprobs=0), loop.add([*PREFIX, 1], prompt_logprobs=0)]
    requests.append(loop.add([*PREFIX, 2]))
    loop.step()
    assert loop.told[requests[0].key].cached == 0
    loop.run()
    assert [loop.told[r.key].cached for r in requests] == [0, 0, 16]
    for request in requests:
        loop.assert_right(request)
