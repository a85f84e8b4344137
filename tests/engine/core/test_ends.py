"""Requests that end early: cancelled, out of time, or while a step is in flight."""

import pytest

from lepton_engine.core.request import SequenceState
from tests.engine.core.device import Fault
from tests.engine.core.loop import Loop


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("steps", range(7))
@pytest.mark.parametrize("n", [1, 3])
def test_cancelled_at_any_time_nothing_is_left(steps: int, n: int, overlap: bool) -> None:
    loop = Loop(budget=4, overlap=overlap)
    request, other = loop.add([1, 2, 3, 0, 1, 2, 3, 0, 1], n=n, max_tokens=20), loop.add([2], max_tokens=9)
    for _ in range(steps):
        loop.step()
    loop.scheduler.abort(request.key)
    assert request.key not in loop.scheduler
    assert all(not sequence.blocks for sequence in request.sequences)
    loop.run()
    assert loop.told[request.key].reasons == dict.fromkeys(range(n), "abort")
    for index in range(n):
        tokens = loop.tokens(request, index)
        assert tokens == loop.alone(request, index)[: len(tokens)]
    loop.assert_right(other)
    loop.assert_drained()
    assert loop.scheduler.finished == {"abort": 1, "length": 1}


@pytest.mark.parametrize("overlap", [False, True])
def test_one_of_several_is_cancelled(overlap: bool) -> None:
    loop = Loop(overlap=overlap)
    request = loop.add([1, 2, 3], n=3, max_tokens=6)
    loop.scheduler.abort(request.key, 1)  # There is but one sequence as yet.
    loop.step()
    loop.step()
    loop.scheduler.abort(request.key, 1, "stop")
    loop.scheduler.abort(request.key, 1, "stop")
    loop.run()
    assert loop.told[request.key].reasons == {0: "length", 1: "stop", 2: "length"}
    for index in (0, 2):
        assert loop.tokens(request, index) == loop.alone(request, index)
    loop.assert_drained()


def test_a_deadline_fails_and_a_time_limit_ends() -> None:
    loop = Loop(max_num_seqs=2)
    late, limited = loop.add([1], max_tokens=50, deadline=5.0), loop.add([2], max_tokens=50, finish_by=4.0)
    queued = [loop.add([3], deadline=3.0), loop.add([3], finish_by=3.0)]
    loop.run()
    assert loop.told[late.key].error == "DeadlineExceededError"
    assert loop.told[limited.key].reasons == {0: "time_limit"}
    assert len(loop.tokens(limited)) == 3
    assert loop.told[queued[0].key].error == "DeadlineExceededError"
    assert loop.told[queued[1].key].reasons == {0: "time_limit"}
    assert loop.tokens(queued[1]) == []
    assert loop.scheduler.finished == {"abort": 2, "time_limit": 2}
    loop.assert_drained()


def test_a_request_with_both_limits_ends_at_the_first() -> None:
    loop = Loop()
    requests = [loop.add([1], max_tokens=50, deadline=9.0, finish_by=3.0) for _ in range(2)]
    requests.append(loop.add([1], max_tokens=50, deadline=3.0, finish_by=9.0))
    requests.append(loop.add([1], max_tokens=50, deadline=3.0, finish_by=3.0))
    loop.run()
    assert [loop.told[r.key].error is not None for r in requests] == [False, False, True, True]


def test_the_timer_of_an_ended_request_does_not_end_another_of_its_key() -> None:
    loop = Loop()
    first = loop.add([1], max_tokens=1, finish_by=4.0)
    loop.run()
    again = loop.request([1], max_tokens=20)
    again.key = first.key
    loop.told.clear()
    loop.submit(again)
    loop.run()
    assert loop.told[again.key].reasons == {0: "length"}


def test_a_step_is_scheduled_before_the_tokens_of_the_last_are_known() -> None:
    loop = Loop(overlap=True)
    request = loop.add([1, 2, 3], max_tokens=4)
    sequence = request.sequences[0]
    loop.step()
    assert (sequence.num_known, sequence.num_pending, len(sequence.token_ids)) == (4, 1, 3)
    plan = loop.step()
    assert [(entry.start, entry.num_tokens) for entry in plan.scheduled] == [(3, 1)]
    assert (sequence.num_known, sequence.num_pending, len(sequence.token_ids)) == (5, 1, 4)
    loop.run()
    loop.assert_right(request)
    assert loop.scheduler.computed_tokens == 3 + 3  # No step was wasted on a known end.


def test_who_needs_history_waits_for_its_tokens() -> None:
    loop = Loop(overlap=True)
    penalised, plain = loop.add([1, 2], presence_penalty=1.0), loop.add([2, 1])
    loop.step()
    plan = loop.step()
    assert [entry.sequence.request.key for entry in plan.scheduled] == [plain.key]
    plan = loop.step()
    assert [entry.sequence.request.key for entry in plan.scheduled] == [penalised.key, plain.key]
    loop.run()
    loop.assert_right(penalised)


def test_a_stop_that_is_found_late_wastes_one_step_and_nothing_else() -> None:
    loop = Loop(overlap=True, block_size=2)
    request = loop.add([1, 2, 3], max_tokens=40, stop=(0, 1, 2))
    follower = loop.add([1, 2, 3], max_tokens=40)
    loop.run()
    for each in (request, follower):
        loop.assert_right(each)
    again = loop.add([1, 2, 3, *loop.tokens(request)])
    loop.run()
    loop.assert_right(again)
    loop.assert_drained()


def test_a_preempted_sequence_takes_in_its_late_token_before_it_runs_again() -> None:
    loop = Loop(overlap=True, max_num_seqs=1)
    slow = loop.add([1, 2, 3], max_tokens=6, priority=1)
    loop.step()
    urgent = loop.add([2], max_tokens=2)
    loop.step()
    sequence = slow.sequences[0]
    assert (sequence.state, sequence.num_pending, len(sequence.token_ids)) == (SequenceState.WAITING, 0, 4)
    loop.run()
    for request in (slow, urgent):
        loop.assert_right(request)


def test_a_preempted_sequence_may_end_with_its_late_token() -> None:
    loop = Loop(overlap=True, max_num_seqs=1)
    slow = loop.add([1, 2, 3], max_tokens=1, priority=1)
    loop.step()
    urgent = loop.add([2], max_tokens=2)
    loop.step()
    assert loop.told[slow.key].reasons == {0: "length"}
    assert loop.scheduler.num_waiting == 0
    loop.run()
    for request in (slow, urgent):
        loop.assert_right(request)
    loop.assert_drained()


def test_a_preempted_score_ends_with_its_late_result() -> None:
    loop = Loop(overlap=True, max_num_seqs=1)
    scored = loop.add([1, 2, 3], max_tokens=0, prompt_logprobs=0, priority=1)
    loop.step()
    loop.add([2], max_tokens=2)
    loop.step()
    loop.assert_right(scored)
    assert loop.scheduler.computed_tokens == 4


@pytest.mark.parametrize("crash", ["launch", "result"])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_crashed_step_fails_its_requests_and_the_others_go_on(crash: str, overlap: bool) -> None:
    loop = Loop(budget=8, chunk=4, max_num_seqs=2, overlap=overlap)
    requests = [loop.add([i] * 9, n=1 + i % 2) for i in range(4)]
    loop.step()
    loop.step(lambda plan: Fault(crash=crash))
    loop.run()
    failed = [request for request in requests if loop.told[request.key].error == "RequestFailedError"]
    assert {request.key for request in failed} == loop.faulty
    assert 0 < len(failed) < 4
    for request in requests:
        if request not in failed:
            loop.assert_right(request)
    loop.assert_drained()
