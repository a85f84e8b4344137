"""The native kernels at every instruction set of this machine, and batches of random shapes for them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch

from lepton_engine.kernels.cpu import NativeKernels, native
from lepton_engine.layers.batch import BatchContext, KVGroupBatch

ISAS = ("baseline", "avx2", "avx512", "avx512bf16")


@pytest.fixture(params=ISAS)
def kernels(request: pytest.FixtureRequest) -> Iterator[NativeKernels]:
    """The native kernels, held to one instruction set; skips those that this machine lacks."""
    found = native()
    if found is None:
        pytest.skip("the CPU kernels were not built")
    best = found.isa
    try:
        found.select_isa(request.param)
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # other tests may be using the cores
    torch.manual_seed(0)
    yield found
    torch.set_num_threads(threads)
    found.select_isa(best)


@dataclass(frozen=True)
class AttentionCase:
    """Tensors of one attention call; the context's one group holds the block table."""

    q: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    batch: BatchContext
    group: KVGroupBatch


MakeAttentionCase = Callable[..., AttentionCase]


@pytest.fixture
def attention_case() -> MakeAttentionCase:
    """Builds a case: (query_len, seq_len) per sequence; blocks are scattered, what nobody wrote is NaN."""

    def make(
        lens: list[tuple[int, int]],
        heads: int,
        kv_heads: int,
        head_dim: int,
        block_size: int,
        dtype: torch.dtype,
        seed: int = 0,
        window: int | None = None,
    ) -> AttentionCase:
        generator = torch.Generator().manual_seed(seed)
        blocks = [-(-seq // block_size) for _, seq in lens]
        total = sum(blocks) + 3
        order = torch.randperm(total - 1, generator=generator) + 1  # block 0 belongs to nobody
        table = torch.zeros(len(lens), max(blocks), dtype=torch.int32)
        caches = [torch.full((total, kv_heads, block_size, head_dim), float("nan"), dtype=dtype) for _ in range(2)]
        slots, positions = [], []
        for i, (query, seq) in enumerate(lens):
            mine = order[sum(blocks[:i]) : sum(blocks[: i + 1])]
            first = 0 if window is None else max(0, seq - query - window + 1)
            for cache in caches:
                for at in range(first, seq):
                    row = torch.randn(kv_heads, head_dim, generator=generator)
                    cache[mine[at // block_size], :, at % block_size] = row.to(dtype)
            table[i, : blocks[i]] = mine
            table[i, : first // block_size] = 0
            positions.append(torch.arange(seq - query, seq))
            slots.append(mine[positions[-1] // block_size] * block_size + positions[-1] % block_size)
        query_lens = tuple(query for query, _ in lens)
        query_start = torch.tensor([0, *query_lens]).cumsum(0).to(torch.int32)
        seq_lens = torch.tensor([seq for _, seq in lens], dtype=torch.int32)
        group = KVGroupBatch(block_table=table, slot_mapping=torch.cat(slots))
        longest = max(seq for _, seq in lens)
        batch = BatchContext(torch.cat(positions), query_start, seq_lens, query_lens, longest, (group,))
        # As a view of a fused projection, whose rows are longer than the queries.
        fused = torch.randn(sum(query_lens), heads + 2 * kv_heads, head_dim, generator=generator).to(dtype)
        return AttentionCase(fused[:, :heads], caches[0], caches[1], batch, group)

    return make
