"""The CPU kernels, each beside torch's own operation or the pure-torch twin that it replaces.

Shapes of one layer of the benchmarks' models, bfloat16. Weights and caches change from call to call, so that they come
from memory as they do in a model. Values are medians of interleaved bursts; the notes state the machine's read
bandwidth and the rate of torch's largest product, measured before and after: other work on the machine's cores shows
there, and makes all figures with several threads worthless.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks import common
from lepton_engine.kernels import reference
from lepton_engine.kernels.cpu import NativeKernels, native
from lepton_engine.layers.batch import BatchContext, KVGroupBatch

DTYPE = torch.bfloat16
WORKING_SET = 96 << 20  # bytes, beyond the caches
BLOCK_SIZE = 16

Call = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """One kernel at one shape, done by Lepton and by a peer.

    Attributes:
        amount: of one call, in units of 1e9 of `unit` times a second: bytes for GB/s, operations for GFLOP/s.
    """

    name: str
    lepton: Call
    peer: Call
    peer_name: str
    amount: float
    unit: str


def seconds(calls: list[Call], rounds: int, burst: float) -> list[list[float]]:
    """Seconds a call, of each in turn, `rounds` times; a burst of calls takes about `burst` seconds."""
    counts = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        counts.append(max(1, int(burst / (time.perf_counter() - start + 1e-9))))
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, times in zip(calls, counts, found, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                call()
            times.append((time.perf_counter() - start) / count)
    return found


def linear(kernels: NativeKernels, rows: int, size: int, columns: int) -> Work:
    """A product; ours with the weight in panels. Each side goes through the set of weights on its own."""
    x = torch.randn(rows, size).to(DTYPE)
    weights = [torch.randn(columns, size).to(DTYPE) for _ in range(max(1, WORKING_SET // (2 * size * columns)))]
    own, other = itertools.cycle([kernels.pack(weight) for weight in weights]), itertools.cycle(weights)
    few = rows <= 4
    return Work(
        f"linear {size}x{columns}, {rows} rows",
        lambda: kernels.linear(x, next(own), None),
        lambda: functional.linear(x, next(other)),
        "torch linear",
        (2 * size * columns if few else 2 * rows * size * columns) / 1e9,
        "GB/s" if few else "GFLOP/s",
    )


def batch_of(lens: list[tuple[int, int]]) -> tuple[BatchContext, KVGroupBatch, int]:
    """A batch of (query_len, seq_len) whose blocks are scattered, and the number of blocks."""
    counts = [-(-seq // BLOCK_SIZE) for _, seq in lens]
    order = torch.randperm(sum(counts)).to(torch.int32)
    table = torch.zeros(len(lens), max(counts), dtype=torch.int32)
    for row, blocks in zip(table, torch.split(order, counts), strict=True):
        row[: len(blocks)] = blocks
    positions = torch.cat([torch.arange(seq - query, seq) for query, seq in lens])
    slots = torch.cat(
        [
            table[i, torch.arange(seq - query, seq) // BLOCK_SIZE].long() * BLOCK_SIZE
            + torch.arange(seq - query, seq) % BLOCK_SIZE
            for i, (query, seq) in enumerate(lens)
        ]
    )
    group = KVGroupBatch(table, slots)
    query_lens = tuple(query for query, _ in lens)
    starts = torch.tensor([0, *query_lens]).cumsum(0).to(torch.int32)
    seq_lens = torch.tensor([seq for _, seq in lens], dtype=torch.int32)
    longest = max(seq for _, seq in lens)
    return BatchContext(positions, starts, seq_lens, query_lens, longest, (group,)), group, sum(counts)


def decode(kernels: NativeKernels, batch: int, context: int, heads: int, kv_heads: int, dim: int) -> Work:
    """One query per sequence over its paged keys and values."""
    ctx, group, blocks = batch_of([(1, context)] * batch)
    q = torch.randn(batch, heads, dim).to(DTYPE)
    bytes_read = 2 * 2 * batch * context * kv_heads * dim
    shape = (2, blocks, kv_heads, BLOCK_SIZE, dim)
    caches = itertools.cycle([torch.randn(shape).to(DTYPE) for _ in range(max(1, WORKING_SET // bytes_read))])

    def call(attention: Callable[..., object]) -> object:
        k_cache, v_cache = next(caches)
        return attention(q, k_cache, v_cache, ctx, group, dim**-0.5, None)

    return Work(
        f"attention, {batch} decodes at {context}, {heads}/{kv_heads} heads of {dim}",
        lambda: call(kernels.paged_attention),
        lambda: call(reference.paged_attention),
        "twin",
        bytes_read / 1e9,
        "GB/s",
    )


def prefill(kernels: NativeKernels, length: int, heads: int, kv_heads: int, dim: int) -> Work:
    """A whole prompt; torch's flash kernel gets its keys and values contiguous, as nothing paged would."""
    ctx, group, blocks = batch_of([(length, length)])
    q = torch.randn(length, heads, dim).to(DTYPE)
    cache = [torch.randn(blocks, kv_heads, BLOCK_SIZE, dim).to(DTYPE) for _ in range(2)]
    plain = [torch.randn(1, n, length, dim).to(DTYPE) for n in (heads, kv_heads, kv_heads)]
    return Work(
        f"attention, prompt of {length}, {heads}/{kv_heads} heads of {dim}",
        lambda: kernels.paged_attention(q, cache[0], cache[1], ctx, group, dim**-0.5, None),
        lambda: functional.scaled_dot_product_attention(plain[0], plain[1], plain[2], is_causal=True, enable_gqa=True),
        "torch attention",
        2 * length * (length + 1) * heads * dim / 1e9,
        "GFLOP/s",
    )


def rowwise(
    kernels: NativeKernels, rows: int, hidden: int, ffn: int, heads: int, kv_heads: int, dim: int
) -> list[Work]:
    """What is done to each token, in microseconds' work: values count the bytes read and written."""
    x, residual, weight = (torch.randn(n, hidden).to(DTYPE) for n in (rows, rows, 1))
    gate_up = torch.randn(rows, 2 * ffn).to(DTYPE)
    fused = torch.randn(rows, heads + 2 * kv_heads, dim).to(DTYPE)
    q, k, v = fused[:, :heads], fused[:, heads : heads + kv_heads], fused[:, heads + kv_heads :]
    table, positions, slots = torch.randn(4096, dim), torch.arange(rows), torch.arange(rows)
    caches = [torch.zeros(-(-rows // BLOCK_SIZE), kv_heads, BLOCK_SIZE, dim, dtype=DTYPE) for _ in range(2)]

    def own_rotary_store() -> None:
        kernels.apply_rotary(q, k, positions, table)
        kernels.store_kv(k, v, caches[0], caches[1], slots)

    def twin_rotary_store() -> None:
        reference.apply_rotary(q, k, positions, table)
        reference.store_kv(k, v, caches[0], caches[1], slots)

    return [
        Work(
            f"add and norm, {rows} rows of {hidden}",
            lambda: kernels.add_rms_norm(x, residual, weight[0], 1e-5),
            lambda: reference.add_rms_norm(x, residual, weight[0], 1e-5),
            "twin",
            rows * hidden * 8 / 1e9,
            "GB/s",
        ),
        Work(
            f"silu and multiply, {rows} rows of {ffn}",
            lambda: kernels.silu_mul(gate_up),
            lambda: reference.silu_mul(gate_up),
            "twin",
            rows * ffn * 6 / 1e9,
            "GB/s",
        ),
        Work(
            f"rotary and store, {rows} tokens, {heads}/{kv_heads} heads of {dim}",
            own_rotary_store,
            twin_rotary_store,
            "twin",
            rows * (heads + 3 * kv_heads) * dim * 4 / 1e9,
            "GB/s",
        ),
    ]


def works(kernels: NativeKernels, quick: bool) -> Iterator[Work]:
    """All of them; made one at a time, for their memory."""
    shapes = [(576, 960), (576, 576), (576, 3072), (1536, 576), (576, 49152), (2048, 8192)]
    for size, columns in shapes[:1] if quick else shapes:
        for rows in (1, 16) if quick else (1, 2, 4, 8, 16, 32, 64, 512, 2048):
            yield linear(kernels, rows, size, columns)
    small, large = (9, 3, 64), (32, 8, 64)
    for heads in (small,) if quick else (small, large):
        for batch, context in ((16, 256),) if quick else ((1, 256), (1, 4096), (16, 256), (32, 512)):
            yield decode(kernels, batch, context, *heads)
        for length in (128,) if quick else (128, 512, 2048):
            yield prefill(kernels, length, *heads)
    for count in (16,) if quick else (1, 16, 512):
        yield from rowwise(kernels, count, 576, 1536, *small)


def limits(quick: bool) -> list[str]:
    """What the machine does beside it."""
    numbers = torch.ones(WORKING_SET // 8 * (1 if quick else 4), dtype=torch.int64)
    (times,) = seconds([lambda: numbers.sum()], 5, 0)
    a = torch.randn(1024, 2048).to(DTYPE)
    b = torch.randn(2048, 2048).to(DTYPE)
    (product,) = seconds([lambda: functional.linear(a, b)], 5, 0)
    return [
        f"read bandwidth {numbers.numel() * 8 / min(times) / 1e9:.1f} GB/s (sum of int64), "
        f"bfloat16 product {2 * 1024 * 2048 * 2048 / min(product) / 1e9:.0f} GFLOP/s (1024x2048x2048)"
    ]


def main() -> None:
    arguments = common.parser(__doc__ or "").parse_args()
    kernels = native()
    if kernels is None:
        sys.exit("the CPU kernels were not built, or LEPTON_CPU_KERNELS=0: nothing to measure")
    rounds, burst = (5, 0.005) if arguments.quick else (9, 0.02)
    made = common.versions("lepton-engine", "torch")
    rows = []
    notes = limits(arguments.quick)
    for work in works(kernels, arguments.quick):
        own, other = (common.median(times) for times in seconds([work.lepton, work.peer], rounds, burst))
        for system, value in ((common.LEPTON, own), (work.peer_name, other)):
            rows.append(common.Row(work.name, system, "bfloat16", work.amount / value, work.unit, versions=made))
    common.compare(rows)
    notes += limits(arguments.quick)
    notes.append(f"kernels for {kernels.isa}, {torch.get_num_threads()} threads")
    common.report("CPU kernels", rows, arguments.json, notes)


if __name__ == "__main__":
    main()
