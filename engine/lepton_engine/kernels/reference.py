"""The pure-torch twin of every kernel: correct on any device, for any mix of prefill chunks and decodes.

Rounding follows the reference implementation of the model families: norms and rotations in float32, softmax in
float32, everything else in the dtype of the tensors.
"""

import torch
from torch.nn import functional

from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.quantized import QuantizedWeight

_Cache = tuple[torch.Tensor, torch.Tensor | None]
"""Keys or values [num_blocks, Hk, block_size, D] and, where they are quantised, their scales."""


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm over the last dimension (Zhang and Sennrich 2019).

    Args:
        x: [..., D]. weight: [D]. eps: added to the mean square.
    """
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return normed.to(x.dtype) * weight


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds x to the residual stream, then norms it: returns (normed, new residual), both [..., D].

    The arguments are left as they are.
    """
    total = x + residual
    return rms_norm(total, weight, eps), total


def apply_rotary(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos_sin_cache: torch.Tensor) -> None:
    """Rotates queries and keys in place (Su et al. 2021, in the half-split layout of GPT-NeoX).

    Args:
        q: [T, Hq, D]. k: [T, Hk, D]. Only the first rot_dim of D are rotated. Both may be strided views.
        positions: int64 [T], rows of the cache.
        cos_sin_cache: float32 [P, rot_dim]: rot_dim / 2 cosines, then as many sines.
    """
    half = cos_sin_cache.shape[-1] // 2
    cos, sin = cos_sin_cache[positions].unsqueeze(1).chunk(2, dim=-1)
    for x in (q, k):
        first = x[..., :half].float()
        second = x[..., half : 2 * half].float()
        # Both before either is written: in float32, `first` and `second` are views of x.
        turned = first * cos - second * sin, second * cos + first * sin
        x[..., :half], x[..., half : 2 * half] = turned


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up: [T, 2F] (the gate's half first) -> [T, F]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def store_kv(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    scales: KVScales | None = None,
) -> None:
    """Writes keys and values into their cache slots.

    Args:
        k, v: [T, Hk, D], possibly strided views.
        k_cache, v_cache: [num_blocks, Hk, block_size, D], written in place.
        slot_mapping: int64 [T], block * block_size + offset.
        scales: of quantised caches (int8 or float8_e4m3fn), written too, by the largest magnitude of a token's head.
    """
    block_size = k_cache.shape[2]
    block = torch.div(slot_mapping, block_size, rounding_mode="floor")
    offset = slot_mapping - block * block_size
    if scales is None:
        k_cache[block, :, offset] = k.to(k_cache.dtype)
        v_cache[block, :, offset] = v.to(v_cache.dtype)
        return
    for x, cache, cache_scales in ((k, k_cache, scales.keys), (v, v_cache, scales.values)):
        stored, factors = quantize_rows(x, cache.dtype)
        cache.view(torch.uint8)[block, :, offset] = stored.view(torch.uint8)
        cache_scales[block, :, offset] = factors.squeeze(-1)


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: BatchContext,
    group: KVGroupBatch,
    scale: float,
    window: int | None,
    scales: KVScales | None = None,
) -> torch.Tensor:
    """Causal attention of a flat batch over its paged keys and values.

    The keys and values of the batch's own tokens must be in the cache already. No host synchronisation on CUDA.

    Args:
        q: [T, Hq, D]; query head h reads key/value head h * Hk // Hq.
        k_cache, v_cache: [num_blocks, Hk, block_size, D].
        batch, group: where each token stands and which blocks its sequence owns.
        scale: factor on the scores.
        window: tokens that a query sees at most, itself included; None for all before it.
        scales: of quantised caches; keys and values are dequantised to q's dtype.

    Returns:
        [T, Hq, D], contiguous.
    """
    keys: _Cache = (k_cache, None if scales is None else scales.keys)
    values: _Cache = (v_cache, None if scales is None else scales.values)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lens = batch.query_lens
    decodes = [i for i, n in enumerate(lens) if n == 1]
    if len(decodes) == len(lens):
        out.copy_(_decode(q, keys, values, group.block_table, batch.seq_lens, batch.max_seq_len, scale, window))
        return out
    if decodes:
        seqs = torch.tensor(decodes, device=q.device)
        tokens = batch.query_start[seqs].long()
        table, seq_lens = group.block_table[seqs], batch.seq_lens[seqs]
        out[tokens] = _decode(q[tokens], keys, values, table, seq_lens, batch.max_seq_len, scale, window)
    # On CUDA the exact lengths would cost a synchronisation; the mask makes the batch's longest one as good.
    on_host = batch.seq_lens.device.type == "cpu"
    totals = batch.seq_lens.tolist() if on_host else [batch.max_seq_len] * len(lens)
    start = 0
    for i, n in enumerate(lens):
        if n > 1:
            rows = slice(start, start + n)
            first = totals[i] - n if on_host else None
            out[rows] = _prefill(
                q[rows], keys, values, group.block_table[i], batch.positions[rows], totals[i], first, scale, window
            )
        start += n
    return out


def _decode(
    q: torch.Tensor,
    k_cache: _Cache,
    v_cache: _Cache,
    block_table: torch.Tensor,
    seq_lens: torch.Tensor,
    max_seq_len: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """One query per sequence, q [B, Hq, D] -> [B, Hq, D]: all sequences padded to one length, one gather."""
    num_kv_heads, block_size = k_cache[0].shape[1:3]
    num_blocks = min(-(-max_seq_len // block_size), block_table.shape[1])
    seq_lens = seq_lens.long().unsqueeze(1)
    columns = torch.arange(num_blocks, device=q.device).unsqueeze(0)
    if window is not None and (reach := (window + block_size - 2) // block_size + 1) < num_blocks:
        # The window touches at most `reach` blocks: read those alone, each sequence from where its window starts.
        first = (seq_lens - window).clamp_min(0) // block_size
        columns = first + columns[:, :reach]
    physical = block_table.long().gather(1, columns.clamp_max(num_blocks - 1).expand(q.shape[0], -1))
    offsets = torch.arange(block_size, device=q.device)
    positions = (columns.unsqueeze(-1) * block_size + offsets).flatten(1)
    visible = positions < seq_lens
    if window is not None:
        visible = visible & (positions >= seq_lens - window)
    keys, values = (_gather(cache, physical, q.dtype) for cache in (k_cache, v_cache))
    _clear_hidden(keys, values, visible)
    grouped = q.reshape(q.shape[0], num_kv_heads, -1, q.shape[-1])
    mask = visible[:, None, None, :]
    return functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scale).reshape(q.shape)


def _gather(cache: _Cache, physical: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Blocks [B, N] of a cache side by side: [B, Hk, N * block_size, D]."""
    stored, scales = cache
    if scales is None:
        return stored[physical].transpose(1, 2).flatten(2, 3).to(dtype)
    blocks = stored.view(torch.uint8)[physical].view(stored.dtype).float() * scales[physical].unsqueeze(-1)
    return blocks.to(dtype).transpose(1, 2).flatten(2, 3)


def _clear_hidden(keys: torch.Tensor, values: torch.Tensor, seen: torch.Tensor) -> None:
    """Zeroes, in gathered copies [B, Hk, L, D], what no query sees (seen: bool [B, L]).

    A slot that was never written, or that a failed request left behind, may hold NaN, and 0 * NaN would spread it.
    """
    hidden = ~seen[:, None, :, None]
    keys.masked_fill_(hidden, 0)
    values.masked_fill_(hidden, 0)


def _prefill(
    q: torch.Tensor,
    k_cache: _Cache,
    v_cache: _Cache,
    blocks: torch.Tensor,
    positions: torch.Tensor,
    total: int,
    first: int | None,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """One sequence's chunk, q [n, Hq, D] -> [n, Hq, D]; `first` is its first position where the host knows it."""
    num_kv_heads, block_size = k_cache[0].shape[1:3]
    skip = 0
    if window is not None and first is not None:
        skip = max(0, first - window + 1) // block_size
    physical = blocks[skip : -(-total // block_size)].long().unsqueeze(0)
    length = total - skip * block_size
    keys, values = (_gather(cache, physical, q.dtype)[:, :, :length] for cache in (k_cache, v_cache))
    mask = None
    if first != 0 or (window is not None and window < total):
        at = torch.arange(skip * block_size, total, device=q.device)
        mask = at <= positions.unsqueeze(1)
        if window is not None:
            mask = mask & (at > positions.unsqueeze(1) - window)
        _clear_hidden(keys, values, mask.any(0, keepdim=True))
    # Grouped heads as a batch of key/value heads; expand() repeats no memory.
    grouped = q.view(q.shape[0], num_kv_heads, -1, q.shape[-1]).permute(1, 2, 0, 3)
    shape = (-1, grouped.shape[1], -1, -1)
    out = functional.scaled_dot_product_attention(
        grouped,
        keys[0].unsqueeze(1).expand(shape),
        values[0].unsqueeze(1).expand(shape),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
    )
    return out.permute(2, 0, 1, 3).flatten(1, 2)


def quantized_linear(x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """x [T, in] times a quantised weight [out, in] transposed, plus bias [out] -> [T, out] in x's dtype.

    Without quantised activations: the weight in x's dtype, then a plain product. With them x is quantised per token
    (symmetric, by its largest magnitude); int8 times int8 is summed exactly, and both scales are applied to the sum.
    """
    if weight.activations is None:
        return functional.linear(x, weight.dequantize(x.dtype), bias)
    quantized, scales = quantize_rows(x, weight.data.dtype)
    if weight.scheme == "int8":
        total = _int8_product(quantized, weight.data)
    else:
        total = functional.linear(quantized.float(), weight.data.float())
    out = total * scales * weight.scales.t()
    return (out if bias is None else out + bias.float()).to(x.dtype)


def quantize_rows(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric quantisation over the last dimension, [..., D] -> values in int8 or float8_e4m3fn, scales [..., 1].

    The largest magnitude of a row becomes 127 (int8) or 448 (float8_e4m3fn); rows of zeros take the scale 1. Scales are
    float32; int8 rounds half to even.
    """
    wide = x.float()
    largest = wide.abs().amax(-1, keepdim=True)
    limit = 127.0 if dtype == torch.int8 else torch.finfo(dtype).max
    # NaN stays NaN, so that a request whose values have left all bounds is found.
    scales = torch.where(largest == 0, 1.0, largest / limit)
    scaled = wide / scales
    if dtype == torch.int8:
        scaled = scaled.round()
    return scaled.clamp(-limit, limit).to(dtype), scales


def _int8_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """int8 [T, in] times int8 [out, in] transposed -> float32 [T, out] of the exact integer sums."""
    rows = x.shape[0]
    if x.is_cuda and rows <= 16:
        # torch._int_mm takes no fewer rows there.
        x = functional.pad(x, (0, 0, 0, 32 - rows))
    return torch._int_mm(x, weight.t())[:rows].float()
