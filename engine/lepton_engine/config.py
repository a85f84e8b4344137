"""The engine's settings as small frozen dataclasses; each part of the engine is given only its own."""

import math
from dataclasses import dataclass

from lepton_engine.errors import InvalidRequestError

DTYPES = ("auto", "float32", "bfloat16", "float16")
KV_CACHE_DTYPES = ("auto", "int8", "fp8")
SPECULATION_METHODS = ("ngram", "draft")
MAX_SPECULATIVE_TOKENS = 32


@dataclass(frozen=True)
class LayerKV:
    """What one attention layer keeps in the KV cache.

    Attributes:
        num_kv_heads, head_dim: of this layer, on this rank.
        window: tokens that a query sees at most, itself included; None for full attention.
    """

    num_kv_heads: int
    head_dim: int
    window: int | None = None


@dataclass(frozen=True)
class ModelSettings:
    """Which model runs, where, and in which arithmetic.

    Attributes:
        device: "auto" takes CUDA where there is one. dtype: "auto" takes the checkpoint's.
        quantization: name of the scheme by which weights are quantised on load; None leaves them as they are stored.
        num_threads: intra-op threads on the CPU; None leaves as many as the process may use.
        enforce_eager: launch every kernel of a decode step rather than replay it as a CUDA graph.
        batch_invariant: compute every row as it would be computed alone.
    """

    device: str = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None
    num_threads: int | None = None
    quantization: str | None = None
    enforce_eager: bool = False
    batch_invariant: bool = False

    def __post_init__(self) -> None:
        _choice("dtype", self.dtype, DTYPES)
        _at_least("max_model_len", self.max_model_len, 1)
        _at_least("num_threads", self.num_threads, 1)
        if self.device not in ("auto", "cpu", "cuda") and not self.device.startswith("cuda:"):
            raise InvalidRequestError("device", f"{self.device!r} is not one of auto, cpu, cuda, cuda:N")


@dataclass(frozen=True)
class CacheSettings:
    """The KV cache.

    Attributes:
        memory: bytes of all blocks; None takes what is measured to be left beside weights and activations.
        block_size: tokens per block.
        dtype: of keys and values; "auto" takes the model's, "int8" and "fp8" (e4m3) have a scale per token and head.
    """

    memory: int | None = None
    block_size: int = 16
    enable_prefix_caching: bool = True
    dtype: str = "auto"

    def __post_init__(self) -> None:
        _choice("kv_cache_dtype", self.dtype, KV_CACHE_DTYPES)
        _at_least("kv_cache_memory", self.memory, 1)
        _at_least("block_size", self.block_size, 1)


@dataclass(frozen=True)
class SchedulerSettings:
    """What a step may hold and what may wait.

    Attributes:
        max_num_seqs: sequences that run at once. max_num_batched_tokens: tokens computed in one step.
        max_prefill_chunk: tokens of one sequence in one step, so that one long prompt leaves room for others;
            None allows the whole step.
        max_queued_requests, max_queued_tokens: bounds of the queue; None is unbounded.
        overlap: schedule step N + 1 while step N runs on the device; None does so where that gains, on CUDA.
        max_queue_time: seconds that a request may wait before it begins to run; None is unbounded.
        tenant_limits: file with the limits of tenants (`tenant_limits`); None limits nobody.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 1024
    max_prefill_chunk: int | None = None
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None
    overlap: bool | None = None
    max_queue_time: float | None = None
    tenant_limits: str | None = None

    def __post_init__(self) -> None:
        if self.max_queue_time is not None and not 0 < self.max_queue_time < math.inf:
            raise InvalidRequestError("max_queue_time", f"{self.max_queue_time!r} is not a time above 0 seconds")
        _at_least("max_num_seqs", self.max_num_seqs, 1)
        _at_least("max_num_batched_tokens", self.max_num_batched_tokens, 1)
        _at_least("max_prefill_chunk", self.max_prefill_chunk, 1)
        _at_least("max_queued_requests", self.max_queued_requests, 0)
        _at_least("max_queued_tokens", self.max_queued_tokens, 0)


@dataclass(frozen=True)
class SpeculationSettings:
    """Speculative decoding: a draft of tokens is proposed and verified in one step. The output stays what it was.

    Attributes:
        method: "ngram" proposes what followed the last tokens where they stood before (prompt lookup); "draft" what a
            smaller model of the same vocabulary would sample.
        num_speculative_tokens: the longest draft; how long each one is follows from what was accepted before.
        model: of "draft": folder of its checkpoint, or id in the local Hugging Face cache.
        prompt_lookup_max, prompt_lookup_min: of "ngram": tokens that must match, the longest tried first.
    """

    method: str = "ngram"
    num_speculative_tokens: int = 4
    model: str | None = None
    prompt_lookup_max: int = 4
    prompt_lookup_min: int = 2

    def __post_init__(self) -> None:
        _choice("speculation.method", self.method, SPECULATION_METHODS)
        _at_least("speculation.num_speculative_tokens", self.num_speculative_tokens, 1)
        _at_least("speculation.prompt_lookup_min", self.prompt_lookup_min, 1)
        if self.num_speculative_tokens > MAX_SPECULATIVE_TOKENS:
            raise InvalidRequestError(
                "speculation.num_speculative_tokens",
                f"{self.num_speculative_tokens} is more than {MAX_SPECULATIVE_TOKENS}",
            )
        if self.prompt_lookup_max < self.prompt_lookup_min:
            raise InvalidRequestError(
                "speculation.prompt_lookup_max",
                f"{self.prompt_lookup_max} is less than prompt_lookup_min, {self.prompt_lookup_min}",
            )
        if (self.model is not None) != (self.method == "draft"):
            needed = "is needed by" if self.model is None else "goes only with"
            raise InvalidRequestError("speculation.model", f"{needed} the method 'draft'")


def _choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidRequestError(field, f"{value!r} is not one of {', '.join(allowed)}")


def _at_least(field: str, value: int | None, low: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InvalidRequestError(field, f"{value!r} is not an integer of at least {low}")
