"""Block tables over the groups of the KV cache: prefix hits, shared prefixes in flight, copy on write, windows."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lepton_engine.core.block_pool import NULL_BLOCK, BlockPool
from lepton_engine.core.hashing import extend_hashes
from lepton_engine.core.kv_layout import KVCacheLayout
from lepton_engine.core.request import Sequence


@dataclass(frozen=True)
class BlockCopy:
    """A block to be copied before the step's forward pass, because it is about to be written and others hold it."""

    group: int
    source: int
    target: int


@dataclass(frozen=True)
class PrefixMatch:
    """What a waiting sequence finds.

    Attributes:
        num_blocks: leading blocks whose keys and values exist in every group, as far as its layers need them.
        follow: content of the last block, of those after, that a running sequence is about to compute; None if none.
    """

    num_blocks: int
    follow: bytes | None


class KVCacheManager:
    """Decides which block holds which tokens. Blocks are hittable as soon as the step that fills them is scheduled.

    That is sound because steps run in order and, within one, every layer stores all keys and values before any
    attention reads them; a step that fails forgets its blocks.
    """

    def __init__(self, layout: KVCacheLayout, *, chunk: int, enable_prefix_caching: bool = True) -> None:
        self.layout = layout
        self.pools = [BlockPool(count) for count in layout.num_blocks]
        self._chunk = chunk
        self._caching = enable_prefix_caching
        self._leaders: dict[bytes, Sequence] = {}
        self._followers: defaultdict[bytes, list[Sequence]] = defaultdict(list)
        self._woken: list[Sequence] = []

    # -- prefixes -----------------------------------------------------------------------------------------------

    def match(self, sequence: Sequence) -> PrefixMatch:
        """The longest prefix that need not be computed; the last token always is, for its logits."""
        if not self._caching or not sequence.request.reads_prefix_cache:
            return PrefixMatch(0, None)
        limit = (len(sequence.token_ids) - 1) // self.layout.block_size
        self._extend_hashes(sequence, limit * self.layout.block_size)
        hit = self._longest_hit(sequence.hashes[:limit])
        end = hit
        while end < limit and self._leads(sequence.hashes[end], sequence):
            end += 1
        return PrefixMatch(hit, sequence.hashes[end - 1] if end > hit else None)

    def _leads(self, content: bytes, sequence: Sequence) -> bool:
        """Whether another computes the block that is not served after this sequence: it would wait for its better."""
        leader = self._leaders.get(content, sequence)
        return leader is not sequence and leader.request.priority <= sequence.request.priority

    def _longest_hit(self, hashes: list[bytes]) -> int:
        """The most blocks h such that each group has those that a query at position h * block_size reads."""
        runs = [0] * len(self.pools)
        best = 0
        for index, content in enumerate(hashes):
            usable = True
            for i, (pool, group) in enumerate(zip(self.pools, self.layout.groups, strict=True)):
                runs[i] = runs[i] + 1 if pool.lookup(content) is not None else 0
                usable = usable and runs[i] >= index + 1 - self._first_block(group.window, index + 1)
            if usable:
                best = index + 1
            elif any(g.window is None and run <= index for g, run in zip(self.layout.groups, runs, strict=True)):
                break
        return best

    def _first_block(self, window: int | None, num_blocks: int) -> int:
        """The first block that a query right after num_blocks full blocks reads."""
        if window is None:
            return 0
        return max(0, num_blocks * self.layout.block_size - window + 1) // self.layout.block_size

    def _extend_hashes(self, sequence: Sequence, num_tokens: int) -> None:
        extend_hashes(sequence.hashes, sequence.request.root, sequence.token_ids, self.layout.block_size, num_tokens)

    def adopt(self, sequence: Sequence, num_blocks: int) -> None:
        """Give a sequence without blocks the first num_blocks of its prefix, and let it lead what comes after."""
        sequence.blocks = [[] for _ in self.pools]
        sequence.window_start = [0] * len(self.pools)
        for i, (pool, group) in enumerate(zip(self.pools, self.layout.groups, strict=True)):
            first = self._first_block(group.window, num_blocks)
            sequence.window_start[i] = first
            for index, content in enumerate(sequence.hashes[:num_blocks]):
                block = pool.lookup(content) if index >= first else NULL_BLOCK
                if block is None:
                    raise RuntimeError("a matched KV block has gone")
                if block != NULL_BLOCK:
                    pool.hold(block)
                sequence.blocks[i].append(block)
        sequence.num_computed = num_blocks * self.layout.block_size
        sequence.num_hashed = num_blocks
        if self._caching:
            self._lead(sequence, num_blocks)

    def _lead(self, sequence: Sequence, start: int) -> None:
        self._extend_hashes(sequence, len(sequence.token_ids))
        for content in sequence.hashes[start:]:
            if content not in self._leaders:
                self._leaders[content] = sequence
                sequence.leads.add(content)

    def follow(self, sequence: Sequence, content: bytes) -> None:
        """Let a sequence wait until its leader has computed the block, or will not any more."""
        sequence.follows = content
        self._followers[content].append(sequence)

    def unfollow(self, sequence: Sequence) -> None:
        """Stop waiting, on cancellation."""
        if sequence.follows is not None:
            followers = self._followers[sequence.follows]
            followers.remove(sequence)
            if not followers:
                del self._followers[sequence.follows]
            sequence.follows = None

    def followed(self) -> set[bytes]:
        """The blocks that somebody waits for."""
        return set(self._followers)

    def take_woken(self) -> list[Sequence]:
        """The followers whose wait has ended since the last call."""
        woken, self._woken = self._woken, []
        return woken

    def _resolve(self, content: bytes) -> None:
        """The leader of a block has computed it, or is gone: who waited looks again."""
        leader = self._leaders.pop(content, None)
        if leader is not None:
            leader.leads.discard(content)
        for follower in self._followers.pop(content, ()):
            follower.follows = None
            self._woken.append(follower)

    # -- blocks -------------------------------------------------------------------------------------------------

    def fits_alone(self, num_tokens: int) -> bool:
        """Whether a sequence of num_tokens could ever be held."""
        return num_tokens <= self.layout.max_tokens

    def outstanding(self, running: Iterable[Sequence]) -> list[int]:
        """Blocks of each group that running sequences lack for their known tokens and one more token each."""
        return [
            sum(
                max(0, group.blocks_for(s.num_known, self.layout.block_size, self._chunk) - s.num_held(i)) + s.num_slots
                for s in running
            )
            for i, group in enumerate(self.layout.groups)
        ]

    def can_admit(self, sequence: Sequence, num_blocks: int, reserve: list[int]) -> bool:
        """Whether all known tokens of a waiting sequence, num_blocks of which are hits, fit beside the reserve."""
        for pool, group, reserved in zip(self.pools, self.layout.groups, reserve, strict=True):
            first = self._first_block(group.window, num_blocks)
            taken = sum(
                1
                for content in sequence.hashes[first:num_blocks]
                if (block := pool.lookup(content)) is not None and pool.is_free(block)
            )
            total = group.blocks_for(sequence.num_known, self.layout.block_size, self._chunk)
            needed = total if group.window is not None else total - (num_blocks - taken)
            if needed + reserved > pool.num_free:
                return False
        return True

    def allocate(self, sequence: Sequence, num_tokens: int) -> list[BlockCopy] | None:
        """Make room for the next num_tokens of a sequence, in every group or in none.

        Returns:
            The blocks to copy before they are written; None when the blocks do not suffice.
        """
        for i, group in enumerate(self.layout.groups):
            if group.window is not None:
                self._leave_behind(sequence, i, group.window)
        size = self.layout.block_size
        last = -(-(sequence.num_computed + num_tokens) // size)
        partial = sequence.num_computed // size if sequence.num_computed % size else None
        plans = []
        for pool, table in zip(self.pools, sequence.blocks, strict=True):
            shared = partial is not None and pool.references(table[partial]) > 1
            missing = max(0, last - len(table))
            if missing + shared > pool.num_free:
                return None
            plans.append((shared, missing))
        copies = []
        for i, (shared, missing) in enumerate(plans):
            pool, table = self.pools[i], sequence.blocks[i]
            if shared and partial is not None:
                copy = BlockCopy(i, table[partial], pool.allocate())
                pool.release(copy.source)
                table[partial] = copy.target
                copies.append(copy)
            table.extend(pool.allocate() for _ in range(missing))
        return copies

    def can_draft(self, sequence: Sequence, num_tokens: int, reserve: list[int]) -> bool:
        """Whether the next num_tokens of a sequence find room beside the reserve, so that nobody lacks for them."""
        size = self.layout.block_size
        last = -(-(sequence.num_computed + num_tokens) // size)
        return all(
            max(0, last - len(table)) + 1 + reserved <= pool.num_free
            for pool, table, reserved in zip(self.pools, sequence.blocks, reserve, strict=True)
        )

    def truncate(self, sequence: Sequence, num_tokens: int) -> None:
        """Take back the computation behind the first num_tokens of a sequence: what they were has not come true."""
        last = -(-num_tokens // self.layout.block_size)
        for pool, table in zip(self.pools, sequence.blocks, strict=True):
            while len(table) > last:
                block = table.pop()
                if block != NULL_BLOCK:
                    pool.release(block)
        sequence.num_computed = num_tokens

    def _leave_behind(self, sequence: Sequence, group: int, window: int) -> None:
        """Release the blocks that no coming query of the sequence can see."""
        first = max(0, sequence.num_computed - window + 1) // self.layout.block_size
        table = sequence.blocks[group]
        for index in range(sequence.window_start[group], min(first, len(table))):
            if table[index] != NULL_BLOCK:
                self.pools[group].release(table[index])
                table[index] = NULL_BLOCK
        sequence.window_start[group] = max(first, sequence.window_start[group])

    def commit(self, sequence: Sequence) -> None:
        """Make the full blocks hittable whose tokens the host knows and whose computation has been scheduled."""
        if not self._caching:
            return
        full = min(sequence.num_computed, len(sequence.token_ids)) // self.layout.block_size
        if full <= sequence.num_hashed:
            return
        self._extend_hashes(sequence, full * self.layout.block_size)
        for index in range(sequence.num_hashed, full):
            content = sequence.hashes[index]
            for pool, table in zip(self.pools, sequence.blocks, strict=True):
                if table[index] != NULL_BLOCK:
                    pool.remember(table[index], content)
            self._resolve(content)
        sequence.num_hashed = full

    def share(self, parent: Sequence, child: Sequence) -> None:
        """Let a forked sibling hold all blocks of its parent."""
        child.blocks = [list(table) for table in parent.blocks]
        child.window_start = list(parent.window_start)
        child.num_hashed = parent.num_hashed
        for pool, table in zip(self.pools, child.blocks, strict=True):
            for block in table:
                if block != NULL_BLOCK:
                    pool.hold(block)

    def forget(self, sequence: Sequence) -> None:
        """Make a sequence's content unhittable, also what it holds no more: it is not to be trusted."""
        for content in sequence.hashes:
            for pool in self.pools:
                block = pool.lookup(content)
                if block is not None:
                    pool.forget(block)

    def release(self, sequence: Sequence) -> None:
        """Give back all that a sequence holds, the tail first so that prefixes outlive it."""
        self.unfollow(sequence)
        for content in list(sequence.leads):
            self._resolve(content)
        for pool, table in zip(self.pools, sequence.blocks, strict=False):
            for block in reversed(table):
                if block != NULL_BLOCK:
                    pool.release(block)
        sequence.blocks = []
        sequence.window_start = []
        sequence.num_computed = 0
        sequence.num_hashed = 0

    def problems(self, live: Iterable[Sequence]) -> list[str]:
        """What is inconsistent between the pools and the live sequences; empty when sound."""
        sequences = list(live)
        found: list[str] = []
        for i, pool in enumerate(self.pools):
            held: defaultdict[int, int] = defaultdict(int)
            for sequence in sequences:
                for block in sequence.blocks[i] if sequence.blocks else ():
                    if block != NULL_BLOCK:
                        held[block] += 1
            found.extend(f"group {i}: {problem}" for problem in pool.problems(held))
        alive = set(map(id, sequences))
        found.extend("a leader is gone" for leader in self._leaders.values() if id(leader) not in alive)
        for content, followers in self._followers.items():
            if content not in self._leaders:
                found.append("followers wait for a block that nobody computes")
            found.extend("a follower is gone" for follower in followers if id(follower) not in alive)
        return found
