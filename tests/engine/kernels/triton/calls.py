"""Calls of every wrapper in the shapes of models, on tensors without storage; `aot.py` compiles what they launch."""

from collections.abc import Sequence

import torch

from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.kv_scales import KVScales
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.kernels.triton import (
    activation,
    attention,
    kv_store,
    matmul,
    norm,
    quantized,
    rotary,
    sampling,
    thresholds,
)

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


def call_quantized_cache() -> None:
    k, v = empty(8, 48, 128)[:, 32:40], empty(8, 48, 128)[:, 40:]
    scales = KVScales(empty(100, 8, 16, dtype=torch.float32), empty(100, 8, 16, dtype=torch.float32))
    for dtype in (torch.int8, torch.float8_e4m3fn):
        cache = empty(100, 8, 16, 128, dtype=dtype)
        kv_store.store_kv(k, v, cache, cache, empty(8, dtype=torch.int64), scales)
        for query_lens in ((1,) * 8, (1, 512)):
            batch, group = context(query_lens, 8192)
            q = empty(sum(query_lens), 48, 128)[:, :32]
            attention.paged_attention(q, cache, cache, batch, group, 0.1, None, scales)


def weight_of(scheme: str, n: int, k: int, *, zeros: bool = False, activations: str | None = None) -> QuantizedWeight:
    if scheme == "int4":
        scales = empty(n, k // 128, dtype=torch.float32)
        points = empty(n, k // 128, dtype=torch.uint8) if zeros else None
        return QuantizedWeight("int4", empty(n, k // 2, dtype=torch.uint8), scales, points)
    data = empty(n, k, dtype=torch.int8 if scheme == "int8" else torch.float8_e4m3fn)
    return QuantizedWeight(scheme, data, empty(n, 1, dtype=torch.float32), activations=activations)


def call_matmul() -> None:
    shapes = ((6144, 4096), (4096, 14336), (28672, 4096))
    for n, k in shapes:
        for rows in (1, 8, 32, 64):
            x = empty(rows, k)
            matmul.small_product(x, empty(n, k), None)
            for scheme in ("int8", "fp8", "int4"):
                matmul.small_product(x, weight_of(scheme, n, k), None)
    x, bias = empty(8, 4096), empty(6144)
    for scheme in ("int8", "fp8", "int4"):
        weight = weight_of(scheme, 6144, 4096, zeros=True)
        for given in (x, x[:1]):
            matmul.small_product(given, weight, bias)
            matmul.small_product(given, weight, None, invariant=True)
    matmul.small_product(x, empty(6144, 4096), None, invariant=True)


def call_quantized() -> None:
    for scheme in ("int8", "fp8", "int4"):
        for dtype in HALVES:
            quantized.dequantize(weight_of(scheme, 6144, 4096, zeros=True), dtype)
    for scheme in ("int8", "fp8"):
        for invariant in (False, True):
            weight = weight_of(scheme, 6144, 4096, activations=scheme)
            quantized.quantized_linear(empty(8, 4096), weight, None, invariant=invariant)


def call_sampling() -> None:
    for rows, vocabulary in ((1, 128256), (256, 32000)):
        logits = empty(rows, vocabulary, dtype=torch.float32)
        best, _ = sampling.first_argmax(logits)
        numbers = empty(rows, 2, dtype=torch.float64)
        sampling.draw_from_logits(logits, best, empty(rows, dtype=torch.float32), numbers[:, 0], 2.0**36)
        sampling.draw(logits, numbers[:, 0])
        for counted in (False, True):
            thresholds.least_weight(logits, numbers[:, 0], counted=counted)
