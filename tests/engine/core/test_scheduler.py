"""Budget, fairness, admission, priorities and preemption."""

import pytest

from lepton_engine.core.request import SequenceState
from lepton_engine.errors import InvalidRequestError, QueueFullError, RequestFailedError
from tests.engine.core.device import Fault
from tests.engine.core.loop import Loop


def test_a_request_runs_from_prompt_to_end() -> None:
    loop = Loop()
    request = loop.add([1, 2, 3, 0, 1], max_tokens=3)
    plans = [loop.step() for _ in range(3)]
    assert [[(e.start, e.num_tokens) for e in plan.scheduled] for plan in plans] == [[(0, 5)], [(5, 1)], [(6, 1)]]
    assert loop.told[request.key].reasons == {0: "length"}
    loop.assert_right(request)
    loop.assert_drained()
    assert loop.scheduler.finished == {"length": 1}
    assert (loop.scheduler.prompt_tokens, loop.scheduler.computed_tokens, loop.scheduler.generated_tokens) == (5, 7, 3)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("block_size", [1, 4])
def test_lengths_around_blocks_and_chunks(length: int, chunk: int | None, block_size: int) -> None:
    loop = Loop(block_size=block_size, chunk=chunk, budget=5)
    for n in (1, 2):
        request = loop.add([token % 4 for token in range(length)], n=n, max_tokens=9)
        loop.run()
        loop.assert_right(request)
    loop.assert_drained()


def test_decodes_run_beside_a_long_prompt_in_every_step() -> None:
    loop = Loop(budget=8, num_blocks=99)
    decoding = [loop.add([i], max_tokens=30) for i in range(3)]
    loop.step()
    long = loop.add([1] * 60)
    for _ in range(12):
        plan = loop.step()
        counts = {entry.sequence.request.key: entry.num_tokens for entry in plan.scheduled}
        assert counts == {**{request.key: 1 for request in decoding}, long.key: 5}
    loop.run()
    for request in (*decoding, long):
        loop.assert_right(request)


def test_decodes_of_worse_priority_run_beside_a_long_prompt_too() -> None:
    loop = Loop(budget=8, num_blocks=99)
    late = loop.add([1], max_tokens=10, priority=9)
    loop.step()
    loop.add([2] * 40, priority=0)
    for tokens in range(2, 8):
        loop.step()
        assert len(loop.tokens(late)) == tokens


def test_a_chunk_leaves_room_for_a_second_prompt() -> None:
    loop = Loop(budget=12, chunk=8, num_blocks=99)
    first, second = loop.add([1] * 20), loop.add([2] * 20)
    plans = [loop.step() for _ in range(4)]
    shares = [{e.sequence.request.key: e.num_tokens for e in plan.scheduled} for plan in plans]
    assert shares == [
        {first.key: 8, second.key: 4},
        {first.key: 8, second.key: 4},
        {first.key: 4, second.key: 8},
        {first.key: 1, second.key: 4},
    ]


def test_n_waits_for_all_its_slots_and_nobody_overtakes_it() -> None:
    loop = Loop(max_num_seqs=4, budget=64)
    running = [loop.add([i], max_tokens=6) for i in range(2)]
    loop.step()
    many, late = loop.add([1, 2], n=3, max_tokens=2), loop.add([3], max_tokens=2)
    loop.step()
    assert {many.sequences[0].state, late.sequences[0].state} == {SequenceState.WAITING}
    loop.run()
    for request in (*running, many, late):
        loop.assert_right(request)
    assert many.first_scheduled_time is not None
    assert late.first_scheduled_time is not None
    assert many.first_scheduled_time <= late.first_scheduled_time


def test_n_keeps_its_slots_while_its_prompt_is_computed() -> None:
    loop = Loop(max_num_seqs=4, budget=4)
    many = loop.add([1] * 10, n=3)
    loop.step()
    other, last = loop.add([2]), loop.add([3])
    loop.step()
    loop.step()
    loop.step()
    assert other.sequences[0].state is SequenceState.RUNNING
    assert last.sequences[0].state is SequenceState.WAITING
    assert sorted(s.slot for s in (*many.sequences, *other.sequences)) == [0, 1, 2, 3]
    loop.run()
    for request in (many, other, last):
        loop.assert_right(request)


def test_more_sequences_than_can_run_are_refused() -> None:
    loop = Loop(max_num_seqs=4)
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.n: 5 is more than the 4"):
        loop.add([1], n=5)
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.n: 3 is more than the 2"):
        Loop(max_num_seqs=4, budget=2).add([1], n=3)


def test_a_prompt_that_can_never_fit_is_refused() -> None:
    loop = Loop(num_blocks=3)  # Eight tokens.
    with pytest.raises(InvalidRequestError, match="prompt: 8 tokens never fit the KV cache, which holds 8"):
        loop.add([1] * 8)
    loop.add([1] * 8, max_tokens=0, prompt_logprobs=0)
    whole = loop.add([1] * 7, max_tokens=100)
    loop.run()
    assert len(loop.tokens(whole)) == 1
    loop.assert_right(whole)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="prompt: is empty"):
        Loop().add([])


def test_the_queue_is_bounded_in_requests() -> None:
    loop = Loop(max_num_seqs=1, max_queued_requests=2)
    loop.add([1])
    loop.step()
    loop.add([1])
    loop.add([1])
    with pytest.raises(QueueFullError, match="the queue is full: 2 requests, 2 tokens wait"):
        loop.add([1])
    assert loop.scheduler.admission.capacity_rejected == 1
    loop.run()
    loop.add([1])


def test_the_queue_is_bounded_in_tokens_but_takes_one_of_any_length() -> None:
    loop = Loop(max_num_seqs=1, max_queued_tokens=10)
    loop.add([1] * 20)
    with pytest.raises(QueueFullError, match="1 requests, 20 tokens"):
        loop.add([1])
    loop.step()
    assert loop.scheduler.queued_tokens == 0
    loop.add([1] * 6)
    loop.add([1] * 4)
    with pytest.raises(QueueFullError):
        loop.add([1])
    assert loop.scheduler.queued_tokens == 10
    loop.run()
    loop.assert_drained()


def test_priorities_go_first_and_preempt_worse_ones() -> None:
    loop = Loop(max_num_seqs=2)
    slow = [loop.add([i], max_tokens=20, priority=1) for i in range(2)]
    loop.step()
    waiting, urgent = loop.add([2], priority=1), loop.add([3], priority=0)
    plan = loop.step()
    assert [e.sequence.request.key for e in plan.scheduled] == [slow[0].key, urgent.key]
    assert slow[1].num_preemptions == 1
    loop.run()
    for request in (*slow, waiting, urgent):
        loop.assert_right(request)
    assert loop.scheduler.preemptions == 1


def test_equal_priorities_do_not_preempt_for_slots() -> None:
    loop = Loop(max_num_seqs=1)
    requests = [loop.add([i], max_tokens=5) for i in range(3)]
    loop.run()
    assert loop.scheduler.preemptions == 0
    for request in requests:
        loop.assert_right(request)


@pytest.mark.parametrize("overlap", [False, True])
def test_who_lacks_blocks_takes_them_from_the_last(overlap: bool) -> None:
    loop = Loop(num_blocks=9, overlap=overlap)  # 32 tokens; each grows to 20.
    requests = [loop.add([i], max_tokens=19) for i in range(3)]
    loop.run()
    assert requests[0].num_preemptions == 0
    assert loop.scheduler.preemptions > 0
    for request in requests:
        loop.assert_right(request)
    loop.assert_drained()


def test_prompts_that_do_not_fit_together_run_one_after_the_other() -> None:
    """What a running prompt still has to compute is not promised to another."""
    loop = Loop(num_blocks=26, budget=8, chunk=4)  # 100 tokens.
    requests = [loop.add([i] * 60) for i in range(3)]
    loop.run()
    assert loop.scheduler.preemptions == 0
    for request in requests:
        loop.assert_right(request)


@pytest.mark.parametrize("overlap", [False, True])
def test_siblings_are_preempted_one_by_one_and_come_back(overlap: bool) -> None:
    loop = Loop(num_blocks=9, overlap=overlap)
    many = loop.add([1, 2, 3, 0, 1], n=4, max_tokens=14)
    loop.run()
    assert loop.scheduler.preemptions > 0
    loop.assert_right(many)
    loop.assert_drained()


def test_blocks_for_all_forks_need_not_be_there() -> None:
    """The copy on write of a sibling may find no block; it is preempted and comes back."""
    loop = Loop(num_blocks=4)
    many = loop.add([1, 2, 3, 0, 1], n=4, max_tokens=6)
    loop.run()
    loop.assert_right(many)
    loop.assert_drained()


@pytest.mark.parametrize("overlap", [False, True])
def test_scoring_computes_the_prompt_and_samples_nothing(overlap: bool) -> None:
    loop = Loop(budget=4, overlap=overlap)
    requests = [loop.add([1, 2, 3, 0] * 3, max_tokens=0, prompt_logprobs=0), loop.add([1], max_tokens=0)]
    loop.run()
    for request in requests:
        assert loop.told[request.key].reasons == {0: "length"}
        loop.assert_right(request)
    assert loop.scheduler.generated_tokens == 0
    loop.assert_drained()


@pytest.mark.parametrize("n", [1, 3])
def test_prompt_scores_come_before_tokens_and_once(n: int) -> None:
    loop = Loop(budget=4, overlap=True)
    request = loop.add([1, 2, 3, 0] * 3, n=n, prompt_logprobs=0)
    loop.run()
    loop.assert_right(request)


def test_stop_tokens_end_a_sequence_after_min_tokens() -> None:
    loop = Loop()
    for min_tokens in range(5):
        request = loop.add([min_tokens % 4], max_tokens=40, stop=(0, 1), min_tokens=min_tokens)
        loop.run()
        tokens = loop.tokens(request)
        assert loop.told[request.key].reasons == {0: "stop"}
        assert len(tokens) > min_tokens
        assert tokens[-1] in (0, 1)
        assert not {0, 1} & set(tokens[:-1])


def test_invalid_samples_fail_their_request_only() -> None:
    loop = Loop()
    requests = [loop.add([i], max_tokens=3) for i in range(3)]
    loop.step(lambda plan: Fault(masked={1}))
    loop.run()
    assert loop.told[requests[1].key].error == "RequestFailedError"
    loop.assert_right(requests[0])
    loop.assert_right(requests[2])
    assert loop.scheduler.finished == {"error": 1, "length": 2}


def test_failing_an_unknown_request_does_nothing() -> None:
    loop = Loop()
    loop.scheduler.fail("nobody", RequestFailedError("no"))
    loop.scheduler.abort("nobody")
    assert loop.scheduler.take_events() == []
