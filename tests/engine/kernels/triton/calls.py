"""Calls of every wrapper in the shapes of models, on tensors without storage; `aot.py` compiles what they launch."""

from collections.abc import Sequence

import torch

from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.triton import activation, attention, kv_store, norm, rotary

META = torch.device("meta")
HALVES = (torch.bfloat16, torch.float16)
# heads, key/value heads, head dimension: Llama 8B, the 1B shape of the benchmarks, one with odd groups.
HEADS = ((32, 8, 128), (32, 8, 64), (9, 3, 80))


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


def context(query_lens: Sequence[int], max_seq_len: int) -> tuple[BatchContext, KVGroupBatch]:
    tokens, seqs = sum(query_lens), len(query_lens)
    group = KVGroupBatch(empty(seqs, 512, dtype=torch.int32), empty(tokens, dtype=torch.int64))
    batch = BatchContext(
        positions=empty(tokens, dtype=torch.int64),
        query_start=empty(seqs + 1, dtype=torch.int32),
        seq_lens=empty(seqs, dtype=torch.int32),
        query_lens=tuple(query_lens),
        max_seq_len=max_seq_len,
        groups=(group,),
    )
    return batch, group


def call_elementwise() -> None:
    for dtype in (*HALVES, torch.float32):
        x, weight = empty(8, 4096, dtype=dtype), empty(4096, dtype=dtype)
        norm.rms_norm(x, weight, 1e-5)
        norm.add_rms_norm(x, empty(8, 4096, dtype=dtype), weight, 1e-5)
        norm.rms_norm(empty(8, 48, 128, dtype=dtype)[:, :32], empty(128, dtype=dtype), 1e-6)
        activation.silu_mul(empty(8, 2 * 14336, dtype=dtype))


def call_rotary_and_store() -> None:
    for heads, kv_heads, dim in HEADS:
        fused = empty(8, heads + 2 * kv_heads, dim)
        q, k, v = fused[:, :heads], fused[:, heads : heads + kv_heads], fused[:, heads + kv_heads :]
        rotary.apply_rotary(q, k, empty(8, dtype=torch.int64), empty(8192, dim, dtype=torch.float32))
        cache = empty(100, kv_heads, 16, dim)
        kv_store.store_kv(k, v, cache, cache, empty(8, dtype=torch.int64))


def call_attention() -> None:
    for heads, kv_heads, dim in HEADS:
        cache = empty(100, kv_heads, 16, dim)
        for query_lens in ((1,), (1,) * 256, (1, 1, 512), (8, 8)):
            q = empty(sum(query_lens), heads + 2 * kv_heads, dim)[:, :heads]
            for invariant in (False, True):
                batch, group = context(query_lens, 8192)
                attention.paged_attention(q, cache, cache, batch, group, 0.1, None, invariant=invariant)
    cache = empty(100, 4, 16, 256)
    batch, group = context((1, 300), 8192)
    q = empty(301, 8, 256)
    attention.paged_attention(q, cache, cache, batch, group, 0.1, 4096, softcap=50.0)
