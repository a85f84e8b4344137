"""How a model's layers share the KV cache: groups of layers with the same window, and how many blocks each gets."""

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_engine.config import LayerKV
from lepton_engine.errors import OutOfMemoryError


@dataclass(frozen=True)
class KVGroup:
    """Layers whose blocks live and die together.

    Attributes:
        window: of its layers, None for full attention. layers: indices of its layers.
        token_bytes: bytes of one token's keys and values over all of its layers.
    """

    window: int | None
    layers: tuple[int, ...]
    token_bytes: int

    def blocks_for(self, num_tokens: int, block_size: int, chunk: int) -> int:
        """Blocks that a sequence of num_tokens needs at most when it is computed in chunks of up to `chunk`."""
        full = -(-num_tokens // block_size)
        if self.window is None:
            return full
        # The blocks of the window before a chunk, the chunk's own, and one more where neither is aligned.
        return min(full, -(-(self.window + chunk) // block_size) + 1)


@dataclass(frozen=True)
class KVCacheLayout:
    """The groups and the number of blocks of each, the null block included."""

    block_size: int
    groups: tuple[KVGroup, ...]
    num_blocks: tuple[int, ...]
    max_tokens: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(
            group.token_bytes * self.block_size * count
            for group, count in zip(self.groups, self.num_blocks, strict=True)
        )

    def group_of_layer(self, layer: int) -> int:
        """Index of the group that a layer belongs to."""
        return next(i for i, group in enumerate(self.groups) if layer in group.layers)


def group_layers(layers: Sequence[LayerKV], element_size: int) -> tuple[KVGroup, ...]:
    """One group per distinct window, full attention first. element_size is in bytes."""
    windows = sorted({layer.window for layer in layers}, key=lambda window: (window is not None, window or 0))
    return tuple(
        KVGroup(
            window,
            tuple(i for i, layer in enumerate(layers) if layer.window == window),
            sum(2 * layer.num_kv_heads * layer.head_dim * element_size for layer in layers if layer.window == window),
        )
        for window in windows
    )


def plan_layout(
    groups: tuple[KVGroup, ...],
    *,
    block_size: int,
    memory: int,
    max_model_len: int,
    max_num_seqs: int,
    chunk: int,
) -> KVCacheLayout:
    """Divide `memory` bytes among the groups in proportion to what sequences of max_model_len tokens need.

    Never more than max_num_seqs such sequences can use. `max_tokens` of the result is the longest sequence that
    fits alone, at most max_model_len.

    Raises:
        OutOfMemoryError: when not even one block per group fits.
    """
    needs = [group.blocks_for(max_model_len, block_size, chunk) for group in groups]
    sequence_bytes = sum(n * g.token_bytes * block_size for n, g in zip(needs, groups, strict=True))
    null_bytes = sum(g.token_bytes * block_size for g in groups)
    share = min((memory - null_bytes) / sequence_bytes, float(max_num_seqs))
    counts = [int(need * share) for need in needs]
    if min(counts) < 1:
        raise OutOfMemoryError(
            f"kv_cache_memory: {memory} bytes hold no block of {block_size} tokens; "
            f"at least {2 * null_bytes} bytes are needed"
        )
    return KVCacheLayout(
        block_size,
        groups,
        tuple(count + 1 for count in counts),
        min(max_model_len, _longest(groups, counts, block_size, chunk, max_model_len)),
    )


def _longest(groups: tuple[KVGroup, ...], counts: list[int], block_size: int, chunk: int, limit: int) -> int:
    """The longest sequence, up to limit tokens, that has its blocks in every group."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        fits = all(g.blocks_for(middle, block_size, chunk) <= c for g, c in zip(groups, counts, strict=True))
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
