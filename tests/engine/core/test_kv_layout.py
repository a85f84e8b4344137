import random

import pytest

from lepton_engine.config import LayerKV
from lepton_engine.core.kv_layout import KVGroup, group_layers, plan_layout
from lepton_engine.errors import OutOfMemoryError

FULL, WINDOW = KVGroup(None, (0,), 8), KVGroup(10, (1,), 8)


def test_layers_are_grouped_by_window_full_attention_first() -> None:
    layers = [LayerKV(2, 4, 8), LayerKV(2, 4), LayerKV(1, 4, 8), LayerKV(2, 4, 4), LayerKV(2, 4)]
    groups = group_layers(layers, element_size=2)
    assert [(g.window, g.layers, g.token_bytes) for g in groups] == [
        (None, (1, 4), 64),
        (4, (3,), 32),
        (8, (0, 2), 48),
    ]


def test_blocks_of_full_attention_are_those_of_its_tokens() -> None:
    assert [FULL.blocks_for(tokens, 4, 1) for tokens in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]


def test_blocks_of_a_window_are_enough_wherever_its_chunks_begin() -> None:
    """By trying: at each chunk the blocks from the first visible position to the chunk's end are held."""
    draw = random.Random(0)
    for _ in range(300):
        window, size, chunk, total = draw.randint(1, 12), draw.randint(1, 6), draw.randint(1, 9), draw.randint(1, 60)
        most, done = 0, 0
        while done < total:
            count = min(draw.randint(1, chunk), total - done)
            most = max(most, -(-(done + count) // size) - max(0, done - window + 1) // size)
            done += count
        assert most <= KVGroup(window, (0,), 1).blocks_for(total, size, chunk)


def test_memory_is_divided_exactly() -> None:
    for blocks in range(1, 200):
        layout = plan_layout(
            (FULL,), block_size=7, memory=(blocks + 1) * 56, max_model_len=343, max_num_seqs=9, chunk=3
        )
        assert layout.num_blocks == (min(blocks, 441) + 1,)
        assert layout.max_tokens == min(343, 7 * blocks)


def test_no_more_than_all_sequences_can_use() -> None:
    layout = plan_layout((FULL, WINDOW), block_size=4, memory=1 << 30, max_model_len=100, max_num_seqs=3, chunk=4)
    assert layout.num_blocks == (3 * 25 + 1, 3 * 5 + 1)
    assert layout.max_tokens == 100
    assert layout.total_bytes == (76 + 16) * 4 * 8
    assert (layout.group_of_layer(0), layout.group_of_layer(1)) == (0, 1)


def test_short_memory_still_holds_the_longest_sequence_that_fits() -> None:
    """A window's blocks are a constant: they must not shrink with the share of max_model_len that fits."""
    groups = (KVGroup(None, (0,), 1), KVGroup(1024, (1,), 1))
    memory = 16 * (2 + 400 + 129)  # 400 blocks of the full group and all that the window needs.
    layout = plan_layout(groups, block_size=16, memory=memory, max_model_len=100_000, max_num_seqs=8, chunk=1024)
    assert layout.num_blocks == (401, 130)
    assert layout.max_tokens == 6400
    assert layout.total_bytes == memory


def test_random_layouts_fit_their_memory_and_their_longest_sequence() -> None:
    draw = random.Random(1)
    for _ in range(300):
        groups = tuple(
            KVGroup(window, (i,), draw.randint(1, 9))
            for i, window in enumerate(draw.choice([(None,), (None, 5), (3, 9), (None, 4, 30)]))
        )
        size, chunk, length = draw.randint(1, 9), draw.randint(1, 20), draw.randint(1, 300)
        memory = draw.randint(2 * size * sum(g.token_bytes for g in groups), 20_000)
        layout = plan_layout(
            groups, block_size=size, memory=memory, max_model_len=length, max_num_seqs=draw.randint(1, 9), chunk=chunk
        )
        assert layout.total_bytes <= memory
        assert 1 <= layout.max_tokens <= length
        for group, count in zip(groups, layout.num_blocks, strict=True):
            assert group.blocks_for(layout.max_tokens, size, chunk) < count


def test_too_little_memory_is_named() -> None:
    with pytest.raises(OutOfMemoryError, match=r"kv_cache_memory: 63 bytes .* at least 64 bytes"):
        plan_layout((FULL,), block_size=4, memory=63, max_model_len=9, max_num_seqs=1, chunk=1)
    assert plan_layout((FULL,), block_size=4, memory=64, max_model_len=9, max_num_seqs=1, chunk=1).max_tokens == 4
