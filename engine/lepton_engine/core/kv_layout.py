"""How a model's layers share the KV cache: groups of layers with the same window, and how many blocks each gets."""

from collections.abc import Callable, Sequence
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


def group_layers(layers: Sequence[LayerKV], element_size: int, scale_size: int = 0) -> tuple[KVGroup, ...]:
    """One group per distinct window, full attention first.

    Args:
        element_size: bytes of an element of a key or value. scale_size: bytes of the scale of one token's head.
    """
    windows = sorted({layer.window for layer in layers}, key=lambda window: (window is not None, window or 0))
    return tuple(
        KVGroup(
            window,
            tuple(i for i, layer in enumerate(layers) if layer.window == window),
            sum(
                2 * layer.num_kv_heads * (layer.head_dim * element_size + scale_size)
                for layer in layers
                if layer.window == window
            ),
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
    """Divide `memory` bytes among the groups in proportion to what the longest sequence that fits needs.

    Never more than max_num_seqs sequences of max_model_len tokens can use. `max_tokens` of the result is the longest
    sequence that fits alone, at most max_model_len.

    Raises:
        OutOfMemoryError: when not even one block per group fits.
    """

    def needs(num_tokens: int) -> list[int]:
        return [group.blocks_for(num_tokens, block_size, chunk) for group in groups]

    def size(counts: Sequence[int]) -> int:
        return sum(count * group.token_bytes * block_size for count, group in zip(counts, groups, strict=True))

    null_bytes = size([1] * len(groups))
    available = memory - null_bytes
    longest = _longest(max_model_len, lambda num_tokens: size(needs(num_tokens)) <= available)
    if longest < 1:
        raise OutOfMemoryError(
            f"kv_cache_memory: {memory} bytes hold no block of {block_size} tokens; "
            f"at least {2 * null_bytes} bytes are needed"
        )
    usable = min(available, max_num_seqs * size(needs(max_model_len)))
    counts = [need * usable // size(needs(longest)) for need in needs(longest)]
    max_tokens = _longest(max_model_len, lambda n: all(map(int.__le__, needs(n), counts)))
    return KVCacheLayout(block_size, groups, tuple(count + 1 for count in counts), max_tokens)


def _longest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number of tokens up to limit that fits, where fewer always do."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
