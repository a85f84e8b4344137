"""The physical blocks of one KV cache group: reference counts, content hashes and eviction."""

from collections import OrderedDict

NULL_BLOCK = 0


class BlockPool:
    """Blocks with reference counts.

    A block whose count falls to zero keeps its content hash and can be hit again until it is evicted, least
    recently used first. Block 0 is never handed out: it stands for blocks that a window has left behind and is
    what padding writes to.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 2:
            raise ValueError(f"num_blocks: {num_blocks} is too few, at least 2 are needed")
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))

    @property
    def num_free(self) -> int:
        """Blocks that can be allocated, cached ones included."""
        return len(self._free)

    @property
    def num_cached(self) -> int:
        """Blocks that a prefix can hit, whether in use or not."""
        return len(self._block_of)

    def references(self, block: int) -> int:
        """How many sequences hold the block."""
        return self._references[block]

    def is_free(self, block: int) -> bool:
        """Whether nobody holds the block."""
        return self._references[block] == 0

    def lookup(self, content: bytes) -> int | None:
        """The block with this content, if it is still there."""
        return self._block_of.get(content)

    def allocate(self) -> int:
        """Take a free block, evicting what it held.

        Raises:
            IndexError: when none is free; callers ask `num_free` first.
        """
        if not self._free:
            raise IndexError("no free KV block")
        block, _ = self._free.popitem(last=False)
        self.forget(block)
        self._references[block] = 1
        return block

    def hold(self, block: int) -> None:
        """Add a reference, to a block in use or to a cached free one."""
        if self._references[block] == 0:
            del self._free[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """Drop a reference; the last one makes the block free, as the most recently used."""
        if self._references[block] <= 0:
            raise ValueError(f"KV block {block} is released more often than it was held")
        self._references[block] -= 1
        if self._references[block] == 0:
            self._free[block] = None
            if self._hash_of[block] is None:
                self._free.move_to_end(block, last=False)

    def remember(self, block: int, content: bytes) -> None:
        """Make a full block hittable; the first block of equal content keeps the entry."""
        if content not in self._block_of and self._hash_of[block] is None:
            self._block_of[content] = block
            self._hash_of[block] = content

    def forget(self, block: int) -> None:
        """Make a block unhittable."""
        content = self._hash_of[block]
        if content is not None:
            del self._block_of[content]
            self._hash_of[block] = None

    def problems(self, held: dict[int, int]) -> list[str]:
        """What is inconsistent, given how often each block stands in the live block tables; empty when sound."""
        found = []
        for block in range(1, self.num_blocks):
            count = self._references[block]
            if count != held.get(block, 0):
                found.append(f"block {block} has {count} references, but stands in {held.get(block, 0)} tables")
            if (count == 0) != (block in self._free):
                found.append(f"block {block} has {count} references and is{'' if block in self._free else ' not'} free")
            content = self._hash_of[block]
            if content is not None and self._block_of.get(content) != block:
                found.append(f"block {block} has a hash that does not lead back to it")
        if NULL_BLOCK in self._free or self._references[NULL_BLOCK]:
            found.append("the null block is in use")
        if len(self._block_of) != sum(h is not None for h in self._hash_of):
            found.append("the hash index and the blocks disagree")
        return found
