import pytest

from lepton_engine.core.block_pool import NULL_BLOCK, BlockPool


def test_every_block_but_the_null_block_is_handed_out_once() -> None:
    pool = BlockPool(5)
    assert sorted(pool.allocate() for _ in range(4)) == [1, 2, 3, 4]
    assert pool.num_free == 0
    with pytest.raises(IndexError, match="no free KV block"):
        pool.allocate()


def test_a_pool_needs_a_block_beside_the_null_block() -> None:
    with pytest.raises(ValueError, match="num_blocks: 1 is too few"):
        BlockPool(1)


def test_released_blocks_stay_hittable_until_evicted_least_recently_used_first() -> None:
    pool = BlockPool(4)
    blocks = [pool.allocate() for _ in range(3)]
    for block in blocks:
        pool.remember(block, bytes([block]))
    for block in (blocks[1], blocks[0], blocks[2]):
        pool.release(block)
    assert (pool.num_free, pool.num_cached) == (3, 3)
    pool.hold(blocks[1])  # A hit makes it recent again.
    pool.release(blocks[1])
    assert [pool.allocate() for _ in range(3)] == [blocks[0], blocks[2], blocks[1]]
    assert pool.num_cached == 0
    assert pool.lookup(bytes([blocks[0]])) is None


def test_blocks_without_content_are_taken_before_cached_ones() -> None:
    pool = BlockPool(4)
    cached, plain, other = (pool.allocate() for _ in range(3))
    pool.remember(cached, b"x")
    pool.release(cached)
    pool.release(plain)
    pool.release(other)
    assert {pool.allocate(), pool.allocate()} == {plain, other}
    assert pool.lookup(b"x") == cached


def test_the_first_block_of_equal_content_keeps_the_entry() -> None:
    pool = BlockPool(3)
    first, second = pool.allocate(), pool.allocate()
    pool.remember(first, b"x")
    pool.remember(second, b"x")
    pool.remember(first, b"y")
    assert (pool.lookup(b"x"), pool.lookup(b"y")) == (first, None)
    pool.release(second)
    assert pool.allocate() == second
    assert pool.lookup(b"x") == first


def test_a_held_block_is_free_only_after_its_last_release() -> None:
    pool = BlockPool(3)
    block = pool.allocate()
    pool.hold(block)
    pool.release(block)
    assert (pool.references(block), pool.num_free, pool.is_free(block)) == (1, 1, False)
    pool.release(block)
    assert (pool.num_free, pool.is_free(block)) == (2, True)
    with pytest.raises(ValueError, match="released more often than it was held"):
        pool.release(block)


def test_problems_name_what_is_wrong() -> None:
    pool = BlockPool(3)
    block = pool.allocate()
    assert pool.problems({block: 1}) == []
    assert pool.problems({}) == [f"block {block} has 1 references, but stands in 0 tables"]
    assert pool.problems({block: 2}) == [f"block {block} has 1 references, but stands in 2 tables"]
    pool._references[NULL_BLOCK] = 1
    assert "the null block is in use" in pool.problems({block: 1})
    pool._references[NULL_BLOCK] = 0
    pool._block_of[b"x"] = block
    assert "the hash index and the blocks disagree" in pool.problems({block: 1})
