"""Block tables seen through the loop, whose device checks every read."""

from lepton_engine.core.block_pool import NULL_BLOCK
from lepton_engine.core.request import SequenceState
from tests.engine.core.device import Fault
from tests.engine.core.loop import Loop

PREFIX = [1, 2, 3, 0, 2, 1, 0, 3]  # Two blocks of four.


def test_a_prefix_is_hit_after_its_request_has_ended() -> None:
    loop = Loop()
    first = loop.add([*PREFIX, 1])
    loop.run()
    second = loop.add([*PREFIX, 2])
    loop.run()
    assert (loop.told[first.key].cached, loop.told[second.key].cached) == (0, 8)
    assert (loop.scheduler.queried_tokens, loop.scheduler.cached_tokens) == (18, 8)
    for request in (first, second):
        loop.assert_right(request)


def test_the_last_token_is_always_computed() -> None:
    """A prompt of whole blocks that are all cached computes its last block again, for the logits."""
    loop = Loop()
    for expected in (0, 4):
        request = loop.add(PREFIX, max_tokens=1)
        loop.run()
        assert loop.told[request.key].cached == expected
        loop.assert_right(request)


def test_generated_blocks_are_hit_too() -> None:
    loop = Loop()
    first = loop.add([1], max_tokens=9)
    loop.run()
    second = loop.add([1, *loop.tokens(first)])
    loop.run()
    assert loop.told[second.key].cached == 8
    loop.assert_right(second)


def test_tenants_and_adapters_do_not_share() -> None:
    loop = Loop()
    loop.add(PREFIX, tenant="a")
    loop.run()
    other = loop.add([*PREFIX, 1], tenant="b")
    adapted = loop.request([*PREFIX, 1], tenant="a")
    adapted.adapter = "x"
    adapted.__post_init__()
    loop.submit(adapted)
    same = loop.add([*PREFIX, 1], tenant="a")
    loop.run()
    assert [loop.told[r.key].cached for r in (other, adapted, same)] == [0, 0, 8]


def test_tenants_do_not_follow_each_other() -> None:
    loop = Loop(budget=8, chunk=4)
    for tenant in ("a", "b"):
        loop.add([*PREFIX, 1], tenant=tenant)
    loop.run()
    assert loop.seen["followed"] == 0
    assert loop.scheduler.computed_tokens == 2 * (9 + 3)


def test_without_caching_nothing_is_shared_or_followed() -> None:
    loop = Loop(caching=False, budget=4)
    requests = [loop.add(PREFIX) for _ in range(3)]
    loop.run()
    assert loop.scheduler.cached_tokens == 0
    assert loop.seen["followed"] == 0
    assert loop.cache.pools[0].num_cached == 0
    for request in requests:
        loop.assert_right(request)


def test_prompt_scores_read_no_prefix_but_leave_one() -> None:
    loop = Loop()
    scored = [loop.add([*PREFIX, 1], prompt_logprobs=0) for _ in range(2)]
    loop.run()
    after = loop.add([*PREFIX, 1])
    loop.run()
    assert [loop.told[r.key].cached for r in (*scored, after)] == [0, 0, 8]
    assert loop.scheduler.queried_tokens == 9
    for request in (*scored, after):
        loop.assert_right(request)


def test_a_window_needs_only_the_blocks_of_the_last_window() -> None:
    """Window 6 at position 16 sees 11 to 16: blocks 2 and 3. The others may have been evicted."""
    loop = Loop(windows=(6,), num_blocks=32)
    prompt = [1, 2, 3, 0] * 4
    first = loop.add([*prompt, 1], max_tokens=1)
    loop.run()
    pool = loop.cache.pools[0]
    hashes = first.sequences[0].hashes
    for content in hashes[:2]:
        block = pool.lookup(content)
        assert block is not None
        pool.forget(block)
    second = loop.add([*prompt, 2])
    loop.step()
    assert loop.told[second.key].cached == 16
    assert second.sequences[0].blocks[0][:2] == [NULL_BLOCK, NULL_BLOCK]
    assert NULL_BLOCK not in second.sequences[0].blocks[0][2:]
    loop.run()
    loop.assert_right(second)


def test_a_window_without_its_last_blocks_hits_an_earlier_prefix() -> None:
    loop = Loop(windows=(None, 6), num_blocks=32)
    prompt = [1, 2, 3, 0] * 4
    first = loop.add([*prompt, 1], max_tokens=1)
    loop.run()
    pool = loop.cache.pools[1]
    block = pool.lookup(first.sequences[0].hashes[3])
    assert block is not None
    pool.forget(block)
    second = loop.add([*prompt, 2])
    loop.run()
    assert loop.told[second.key].cached == 12
    loop.assert_right(second)


def test_windows_free_their_blocks_as_they_move_on() -> None:
    loop = Loop(block_size=2, windows=(None, 5), num_blocks=(64, 10), budget=4)
    request = loop.add([1, 2, 3, 0] * 10, max_tokens=20)
    full, window = loop.cache.pools
    most = 0
    while loop.scheduler.has_work:
        loop.step()
        most = max(most, window.num_blocks - 1 - window.num_free)
    assert most <= loop.cache.layout.groups[1].blocks_for(60, 2, 4) == 6
    assert full.num_free == full.num_blocks - 1
    loop.assert_right(request)


def test_forks_share_the_prompt_and_copy_the_partial_block_when_they_write() -> None:
    loop = Loop()
    request = loop.add([*PREFIX, 1], n=3, max_tokens=3)
    loop.step()
    pool = loop.cache.pools[0]
    assert [s.blocks for s in request.sequences] == [[[1, 2, 3]]] * 3
    assert [pool.references(block) for block in (1, 2, 3)] == [3, 3, 3]
    plan = loop.step()
    assert [(copy.source, copy.target) for copy in plan.copies] == [(3, 4), (3, 5)]  # The last holder keeps it.
    assert [s.blocks[0] for s in request.sequences] == [[1, 2, 4], [1, 2, 5], [1, 2, 3]]
    assert loop.scheduler.computed_tokens == 9 + 3
    loop.run()
    loop.assert_right(request)
    loop.assert_drained()


def test_forks_of_whole_blocks_copy_nothing() -> None:
    loop = Loop()
    request = loop.add(PREFIX, n=3)
    loop.run()
    assert loop.seen["copied"] == 0
    loop.assert_right(request)


def test_blocks_of_one_token() -> None:
    loop = Loop(block_size=1, windows=(None, 1, 2))
    requests = [loop.add([1], n=2), loop.add([1, 2], n=2), loop.add([1, 2])]
    loop.run()
    for request in requests:
        loop.assert_right(request)
    assert loop.seen["copied"] == 0


def test_of_requests_that_arrive_together_one_computes_the_prefix() -> None:
    loop = Loop(budget=8, chunk=4, max_num_seqs=16)
    requests = [loop.add([*PREFIX, i]) for i in range(4)]
    loop.step()
    leader, *others = (request.sequences[0] for request in requests)
    assert leader.state is SequenceState.RUNNING
    assert {other.state for other in others} == {SequenceState.FOLLOWING}
    assert (loop.scheduler.num_running, loop.scheduler.num_waiting, loop.scheduler.queued_tokens) == (1, 3, 27)
    loop.run()
    assert loop.scheduler.computed_tokens == len(PREFIX) + 4 * (1 + 3)
    assert [loop.told[request.key].cached for request in requests] == [0, 8, 8, 8]
    for request in requests:
        loop.assert_right(request)


def test_within_one_step_what_the_leader_fills_is_hit() -> None:
    loop = Loop(budget=64)
    requests = [loop.add([*PREFIX, i]) for i in range(4)]
    plan = loop.step()
    assert [(entry.start, entry.num_tokens) for entry in plan.scheduled] == [(0, 9), (8, 1), (8, 1), (8, 1)]
    loop.run()
    for request in requests:
        loop.assert_right(request)


def test_content_of_a_crashed_step_is_not_hit_even_where_it_was_left_behind() -> None:
    """With a step in flight the window has moved on, and given the blocks back, before the crash is known."""
    loop = Loop(block_size=2, windows=(4,), budget=8, overlap=True)
    prompt = [1, 2, 3, 0] * 5
    crashed = loop.add(prompt)
    loop.step(lambda plan: Fault(crash="result"))
    loop.step()
    assert loop.told[crashed.key].error == "RequestFailedError"
    assert loop.cache.pools[0].num_cached == 0
    again = loop.add(prompt)
    loop.run()
    assert loop.told[again.key].cached == 0
    loop.assert_right(again)


def test_content_of_a_crashed_step_is_not_hit_even_of_a_request_that_was_cancelled_meanwhile() -> None:
    loop = Loop(overlap=True)
    cancelled = loop.add([*PREFIX, 1])
    loop.step(lambda plan: Fault(crash="result"))
    loop.scheduler.abort(cancelled.key)
    loop.step()
    assert loop.cache.pools[0].num_cached == 0
    again = loop.add([*PREFIX, 1])
    loop.run()
    loop.assert_right(again)


def test_what_is_launched_after_a_crashed_step_may_have_read_its_blocks_and_fails_too() -> None:
    loop = Loop(overlap=True)
    first = loop.add([*PREFIX, 1])
    loop.step(lambda plan: Fault(crash="result"))
    second = loop.add([*PREFIX, 2])
    loop.step()
    assert loop.told[second.key].cached == 8
    assert loop.told[first.key].error == loop.told[second.key].error == "RequestFailedError"
    loop.run()
    loop.assert_drained()
