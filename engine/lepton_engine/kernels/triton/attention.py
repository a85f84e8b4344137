"""Paged attention of any mix of prefill chunks and decodes, in one launch and, for split contexts, one to add up.

A program computes, for one key/value head, the query heads of its group over some tokens of one sequence (grouped
heads packed into the rows of one product), over the keys of one split. Online softmax: Milakov and Gimelshein 2018
(arXiv:1805.02867); splits that are added up: Flash-Decoding, Dao et al. 2023; pages: Kwon et al. 2023
(arXiv:2309.06180).
"""

import torch
import triton
import triton.language as tl

from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.triton.launch import blocks, next_power, processors, widens
from lepton_engine.kernels.triton.tuning import pick

_LEAST_SPLIT = 128  # keys; a shorter split costs more than it saves
_MOST_SPLITS = 32
_PROGRAMS_PER_PROCESSOR = 2


@triton.jit
def _find_sequence(query_start_ptr, num_seqs, index, TOKENS: tl.constexpr):
    """The sequence whose tokens the index-th block of TOKENS tokens holds: i's blocks start at start // TOKENS + i."""
    low = 0
    high = num_seqs
    while high - low > 1:
        middle = (low + high) // 2
        first = tl.load(query_start_ptr + middle) // TOKENS + middle
        if first <= index:
            low = middle
        else:
            high = middle
    return low


@triton.jit(do_not_specialize=["num_seqs", "splits", "window", "softcap"])
def _attend(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    sums_ptr,
    stats_ptr,
    k_scale_ptr,
    v_scale_ptr,
    table_ptr,
    query_start_ptr,
    seq_len_ptr,
    num_seqs,
    scale,
    softcap,
    window,
    splits,
    split_keys,
    q_heads,
    q_token_stride,
    q_head_stride,
    block_stride,
    head_stride,
    row_stride,
    scale_block_stride,
    scale_head_stride,
    table_stride,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
    TILE: tl.constexpr,
    SPLIT: tl.constexpr,
    DECODE: tl.constexpr,
    FIXED_SPLIT: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    SCALED: tl.constexpr,
    FP8: tl.constexpr,
    WIDE: tl.constexpr,
):
    index = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    if DECODE:
        seq = index
        start = index
        query_len = 1
        offset = 0
    else:
        seq = _find_sequence(query_start_ptr, num_seqs, index, TOKENS)
        start = tl.load(query_start_ptr + seq)
        query_len = tl.load(query_start_ptr + seq + 1) - start
        offset = (index - (start // TOKENS + seq)) * TOKENS
        if offset >= query_len:
            return
    seq_len = tl.load(seq_len_ptr + seq)
    row = tl.arange(0, ROWS)
    token = offset + row // GROUP
    used = (row < TOKENS * GROUP) & (token < query_len)
    position = seq_len - query_len + token
    head = kv_head * GROUP + row % GROUP

    # Keys that some row of this program sees, and those of them that belong to its split.
    end = seq_len - query_len + tl.minimum(offset + TOKENS, query_len)
    begin = 0
    if WINDOW:
        begin = tl.maximum(0, seq_len - query_len + offset - window + 1)
    low = begin // TILE * TILE
    high = end
    if SPLIT:
        if FIXED_SPLIT:
            first = split * split_keys
            last = first + split_keys
        else:
            share = tl.cdiv(tl.cdiv(end - low, TILE), splits) * TILE
            first = low + split * share
            last = first + share
        low = tl.maximum(low, first)
        high = tl.minimum(end, last)

    column = tl.arange(0, DIM)
    inside = column < HEAD_DIM
    q_at = q_ptr + (start + token).to(tl.int64)[:, None] * q_token_stride + head[:, None] * q_head_stride
    q = tl.load(q_at + column[None, :], mask=used[:, None] & inside[None, :], other=0.0)
    dtype = q.dtype
    if WIDE:
        q = q.to(tl.float32)
    best = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    sums = tl.zeros([ROWS, DIM], dtype=tl.float32)
    for tile in tl.range(low, high, TILE):
        key = tile + tl.arange(0, TILE)
        # What no row sees may never have been written: NaN there must not be read.
        seen = (key < high) & (key >= begin)
        block = tl.load(table_ptr + seq.to(tl.int64) * table_stride + key // BLOCK_SIZE, mask=seen, other=0)
        at = block.to(tl.int64) * block_stride + kv_head * head_stride + (key % BLOCK_SIZE) * row_stride
        k = tl.load(k_ptr + at[None, :] + column[:, None], mask=seen[None, :] & inside[:, None], other=0)
        v = tl.load(v_ptr + at[:, None] + column[None, :], mask=seen[:, None] & inside[None, :], other=0)
        if FP8:
            k = k.to(tl.float8e4nv, bitcast=True)
            v = v.to(tl.float8e4nv, bitcast=True)
        if SCALED or WIDE:
            k = k.to(tl.float32)
            v = v.to(tl.float32)
        if not WIDE:
            k = k.to(dtype)
            v = v.to(dtype)
        scores = tl.dot(q, k, input_precision="ieee") * scale
        if SCALED:
            # Scales belong to keys and values as a whole, so they multiply what is summed rather than every element.
            scale_at = block.to(tl.int64) * scale_block_stride + kv_head * scale_head_stride + key % BLOCK_SIZE
            scores *= tl.load(k_scale_ptr + scale_at, mask=seen, other=0.0)[None, :]
        if SOFTCAP:
            scores = softcap * (1.0 - 2.0 / (tl.exp(2.0 * scores / softcap) + 1.0))
        scores *= 1.4426950408889634  # log2(e), for powers of two below
        visible = used[:, None] & seen[None, :] & (key[None, :] <= position[:, None])
        if WINDOW:
            visible = visible & (key[None, :] > position[:, None] - window)
        scores = tl.where(visible, scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, axis=1))
        base = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(best - base)
        total = total * shrink + tl.sum(weights, axis=1)
        sums = sums * shrink[:, None]
        if SCALED:
            weights *= tl.load(v_scale_ptr + scale_at, mask=seen, other=0.0)[None, :]
        sums = tl.dot(weights.to(v.dtype), v, sums, input_precision="ieee")
        best = higher
    target = (start + token).to(tl.int64) * q_heads + head
    if SPLIT:
        target = target * splits + split
        tl.store(stats_ptr + target * 2, best, mask=used)
        tl.store(stats_ptr + target * 2 + 1, total, mask=used)
        tl.store(
            sums_ptr + target[:, None] * HEAD_DIM + column[None, :],
            sums,
            mask=(used & (total > 0.0))[:, None] & inside[None, :],
        )
    else:
        sums = sums / tl.where(total > 0.0, total, 1.0)[:, None]
        out_at = out_ptr + target[:, None] * HEAD_DIM + column[None, :]
        tl.store(out_at, sums.to(out_ptr.dtype.element_ty), mask=used[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["splits"])
def _add_splits(
    sums_ptr, stats_ptr, out_ptr, splits, HEAD_DIM: tl.constexpr, DIM: tl.constexpr, SPLITS_BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS_BLOCK)
    bests = tl.load(stats_ptr + (row * splits + split) * 2, mask=split < splits, other=float("-inf"))
    base = tl.max(bests, axis=0)
    base = tl.where(base == float("-inf"), 0.0, base)
    column = tl.arange(0, DIM)
    out = tl.zeros([DIM], dtype=tl.float32)
    total = 0.0
    # Eight at a time in a fixed order: empty splits at the end then change nothing, however many there are.
    for start in range(0, splits, 8):
        part = start + tl.arange(0, 8)
        at = row * splits + part
        own = tl.load(stats_ptr + at * 2 + 1, mask=part < splits, other=0.0)
        best = tl.load(stats_ptr + at * 2, mask=part < splits, other=float("-inf"))
        weight = tl.exp2(best - base)
        sums = tl.load(
            sums_ptr + at[:, None] * HEAD_DIM + column[None, :],
            mask=(own > 0.0)[:, None] & (column < HEAD_DIM)[None, :],
            other=0.0,
        )
        out += tl.sum(sums * weight[:, None], axis=0)
        total += tl.sum(own * weight, axis=0)
    out = out / tl.where(total > 0.0, total, 1.0)
    tl.store(out_ptr + row * HEAD_DIM + column, out.to(out_ptr.dtype.element_ty), mask=column < HEAD_DIM)


def _free_splits(device: torch.device, programs: int, max_seq_len: int) -> int:
    """Splits that give all processors work, a power of two so that few kernels are compiled."""
    wanted = min(
        _PROGRAMS_PER_PROCESSOR * processors(device) // programs, blocks(max_seq_len, _LEAST_SPLIT), _MOST_SPLITS
    )
    return 1 << (wanted.bit_length() - 1) if wanted > 1 else 1


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: BatchContext,
    group: KVGroupBatch,
    scale: float,
    window: int | None,
    scales: KVScales | None = None,
    *,
    softcap: float | None = None,
    invariant: bool = False,
    splits: int | None = None,
) -> torch.Tensor:
    """See `reference.paged_attention`; the last dimension of q is contiguous, the caches are laid out alike.

    Args:
        softcap: bounds the scores by softcap * tanh(score / softcap). None: no bound.
        invariant: one tile shape and splits at fixed positions, so that a token's result depends on its sequence alone.
        splits: of the context of a batch of decodes; None chooses what fills the device.
    """
    tokens, heads, dim = q.shape
    out = torch.empty(tokens, heads, dim, dtype=q.dtype, device=q.device)
    if tokens == 0:
        return out
    kv_heads = k_cache.shape[1]
    packed = heads // kv_heads
    num_seqs = len(batch.query_lens)
    longest = max(batch.query_lens)
    decode = longest == 1 and not invariant
    split_keys = 0
    if invariant:
        tiles = pick("attention_invariant", q.device, head_dim=dim)
        split_keys = tiles["split"]
        splits = blocks(batch.max_seq_len, split_keys)
    elif decode:
        tiles = pick("attention_decode", q.device, head_dim=dim)
        splits = splits or _free_splits(q.device, num_seqs * kv_heads, batch.max_seq_len)
    else:
        tiles = pick("attention_mixed", q.device, head_dim=dim, query_len=longest)
        splits = 1
    rows = next_power(max(tiles.get("rows", 16), packed), 16)
    per_program = rows // packed
    sums = stats = out
    fp8 = k_cache.dtype == torch.float8_e4m3fn
    if fp8:
        # As bytes: a masked load of fp8 itself has no zero.
        k_cache, v_cache = k_cache.view(torch.uint8), v_cache.view(torch.uint8)
    if splits > 1:
        sums = torch.empty(tokens * heads * splits * dim, dtype=torch.float32, device=q.device)
        stats = torch.empty(tokens * heads * splits * 2, dtype=torch.float32, device=q.device)
    token_blocks = num_seqs if decode else tokens // per_program + num_seqs
    _attend[(token_blocks, kv_heads, splits)](
        q,
        k_cache,
        v_cache,
        out,
        sums,
        stats,
        scales.keys if scales is not None else k_cache,
        scales.values if scales is not None else v_cache,
        group.block_table,
        batch.query_start,
        batch.seq_lens,
        num_seqs,
        scale,
        softcap if softcap is not None else 0.0,
        window if window is not None else 0,
        splits,
        split_keys,
        heads,
        q.stride(0),
        q.stride(1),
        k_cache.stride(0),
        k_cache.stride(1),
        k_cache.stride(2),
        scales.keys.stride(0) if scales is not None else 0,
        scales.keys.stride(1) if scales is not None else 0,
        group.block_table.stride(0),
        GROUP=packed,
        HEAD_DIM=dim,
        DIM=next_power(dim, 16),
        BLOCK_SIZE=k_cache.shape[2],
        ROWS=rows,
        TOKENS=per_program,
        TILE=tiles["tile"],
        SPLIT=splits > 1,
        DECODE=decode,
        FIXED_SPLIT=invariant,
        WINDOW=window is not None,
        SOFTCAP=softcap is not None,
        SCALED=scales is not None,
        FP8=fp8,
        WIDE=widens(q.dtype),
        num_warps=tiles["warps"],
        num_stages=tiles["stages"],
        enable_fp_fusion=True,
    )
    if splits > 1:
        _add_splits[(tokens * heads,)](
            sums,
            stats,
            out,
            splits,
            HEAD_DIM=dim,
            DIM=next_power(dim),
            SPLITS_BLOCK=next_power(splits),
            num_warps=2,
            enable_fp_fusion=True,
        )
    return out
