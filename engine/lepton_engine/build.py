"""From settings to a running core: load the model, measure the memory, size the KV cache."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from lepton_engine.config import SchedulerSettings
from lepton_engine.core.admission import Admission
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.kv_layout import KVCacheLayout, plan_layout
from lepton_engine.core.plan import ScheduledSequence, StepPlan
from lepton_engine.core.request import Request
from lepton_engine.core.scheduler import Scheduler
from lepton_engine.energy.ledger import EnergyLedger
from lepton_engine.energy.meter import find_meter
from lepton_engine.errors import InvalidRequestError, OutOfMemoryError, UnsupportedError, UnsupportedModelError
from lepton_engine.grammar.intake import GrammarIntake
from lepton_engine.interfaces import Recorder
from lepton_engine.kernels.cpu import native
from lepton_engine.kernels.kv_scales import KV_DTYPES
from lepton_engine.messages import EngineSettings, ModelInfo
from lepton_engine.models.base import CausalLM
from lepton_engine.models.loader import load_model
from lepton_engine.quantization.scheme import parse_scheme
from lepton_engine.runtime.batch import build_batch
from lepton_engine.runtime.graphs import graph_bytes
from lepton_engine.runtime.kv_memory import (
    allocate_kv_cache,
    full_cache_bytes,
    kv_groups,
    measure_peak,
    memory_left,
)
from lepton_engine.runtime.runner import Runner
from lepton_engine.runtime.threads import usable_cores
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.speculation.build import LoadedDraft, load_draft, make_speculator
from lepton_engine.step import EngineCore
from lepton_engine.tenant_limits import LimitsFile
from lepton_engine.weights.checkpoint import Checkpoint, open_checkpoint

if TYPE_CHECKING:
    from lepton_engine.grammar.compiler import GrammarCompiler

logger = logging.getLogger(__name__)

PROFILE_TOKENS = 256


def build_core(
    settings: EngineSettings,
    checkpoint: Checkpoint | None = None,
    recorder: Recorder | None = None,
    tokenizer_json: Callable[[], str] | None = None,
) -> EngineCore:
    """Load a checkpoint (or the given one) and make the engine's core.

    Args:
        recorder: keeps who is in the step in flight, for the case that the process dies of it.
        tokenizer_json: gives the tokenizer as `tokenizers` writes it; None loads it as the settings say.

    Raises:
        ModelLoadError: the checkpoint is damaged or not supported.
        OutOfMemoryError: weights or KV cache do not fit.
        InvalidRequestError: a setting does not go with the model or the machine.
    """
    began = time.monotonic()
    device = _device(settings.model_settings.device)
    if device.type == "cpu":
        torch.set_num_threads(settings.model_settings.num_threads or usable_cores())
    if settings.model_settings.batch_invariant and device.type == "cpu" and native() is None:
        raise UnsupportedError(
            "batch_invariant", "True needs the native CPU kernels; torch's own depend on the rows beside a row"
        )
    checkpoint = checkpoint or open_checkpoint(settings.model)
    dtype = _dtype(settings.model_settings.dtype, checkpoint.dtype)
    wanted = settings.model_settings.quantization
    scheme = None if wanted is None else parse_scheme(wanted)
    try:
        model = load_model(checkpoint, dtype=dtype, device=device, quantization=scheme).eval()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(f"the weights do not fit the memory of {device}: {error}") from error
    draft = _draft(settings, model, device)
    max_model_len = _model_len(settings.model_settings.max_model_len, model)
    kv_dtype = KV_DTYPES.get(settings.cache.dtype, dtype)
    draft_bytes = 0 if draft is None else draft.group.token_bytes
    layout, runner = with_kv_cache(model, settings, kv_dtype, device, max_model_len, draft_token_bytes=draft_bytes)
    scheduler_settings = settings.scheduler
    cache = KVCacheManager(
        layout,
        chunk=_chunk(scheduler_settings),
        enable_prefix_caching=settings.cache.enable_prefix_caching,
    )
    info = _describe(model, checkpoint, layout, settings, dtype, device, time.monotonic() - began)
    logger.info(
        "%s: %.1f M parameters, %s%s on %s, KV cache of %d tokens, ready in %.1f s",
        info.family,
        info.num_parameters / 1e6,
        info.dtype,
        f" ({info.quantization} weights)" if info.quantization else "",
        info.device,
        info.num_kv_blocks * info.block_size,
        info.load_seconds,
    )
    overlap = scheduler_settings.overlap if scheduler_settings.overlap is not None else device.type == "cuda"
    speculator = None
    if settings.speculation is not None:
        speculator = make_speculator(
            settings.speculation,
            draft,
            model,
            layout,
            max_num_seqs=scheduler_settings.max_num_seqs,
            max_num_batched_tokens=scheduler_settings.max_num_batched_tokens,
        )
    limits = None if scheduler_settings.tenant_limits is None else LimitsFile(scheduler_settings.tenant_limits)
    admission = Admission(scheduler_settings, None if limits is None else limits.table)
    scheduler = Scheduler(scheduler_settings, cache, admission)
    return EngineCore(
        scheduler,
        runner,
        info,
        overlap=overlap,
        speculator=speculator,
        tenant_limits=limits,
        recorder=recorder,
        energy=_energy(device),
        grammars=GrammarIntake(lambda: _grammar_compiler(settings, info, tokenizer_json)),
    )


def _grammar_compiler(
    settings: EngineSettings, info: ModelInfo, tokenizer_json: Callable[[], str] | None
) -> "GrammarCompiler":
    """What compiles constraints, made at the first one: start-up does not wait for it, nor need its packages."""
    from lepton_engine.grammar.compiler import GrammarCompiler
    from lepton_engine.grammar.vocabulary import Vocabulary
    from lepton_engine.text.tokenizer import Tokenizer

    def load() -> Vocabulary:
        text = tokenizer_json() if tokenizer_json is not None else settings.tokenizer_json
        if not text:
            text = Tokenizer.load(settings.tokenizer or settings.model).backend.to_str()
        return Vocabulary(text, info.vocab_size, info.eos_token_ids)

    return GrammarCompiler(load)


def _energy(device: torch.device) -> EnergyLedger | None:
    gpu = None
    if device.type == "cuda":
        gpu = f"GPU-{str(torch.cuda.get_device_properties(device).uuid).removeprefix('GPU-')}"
    meter = find_meter(gpu)
    return None if meter is None else EnergyLedger(meter, time.monotonic())


def _draft(settings: EngineSettings, model: CausalLM, device: torch.device) -> LoadedDraft | None:
    if settings.speculation is None or settings.speculation.model is None:
        return None
    checkpoint = open_checkpoint(settings.speculation.model)
    dtype = _dtype(settings.model_settings.dtype, checkpoint.dtype)
    return load_draft(checkpoint, dtype=dtype, device=device, vocab_size=model.vocab_size)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidRequestError("device", f"{name!r} is not there: torch finds no CUDA device")
    return device


def _dtype(wanted: str, stored: torch.dtype) -> torch.dtype:
    if wanted == "auto":
        return stored
    dtype: torch.dtype = getattr(torch, wanted)
    return dtype


def _model_len(wanted: int | None, model: CausalLM) -> int:
    if wanted is not None and wanted > model.max_position:
        logger.warning("max_model_len: %d is beyond the checkpoint's context of %d", wanted, model.max_position)
        try:
            model.extend(wanted)
        except UnsupportedModelError as error:
            raise InvalidRequestError("max_model_len", f"{wanted} is too long: {error}") from error
    return wanted or model.max_position


def _chunk(settings: SchedulerSettings) -> int:
    return min(settings.max_prefill_chunk or settings.max_num_batched_tokens, settings.max_num_batched_tokens)


def with_kv_cache(
    model: CausalLM,
    settings: EngineSettings,
    kv_dtype: torch.dtype,
    device: torch.device,
    max_model_len: int,
    *,
    draft_token_bytes: int = 0,
) -> tuple[KVCacheLayout, Runner]:
    """Size the KV cache by what is left beside weights, activations of the largest step and graphs; make the runner.

    What is left is shared with the draft model's KV cache, which needs draft_token_bytes for each token.

    Raises:
        OutOfMemoryError: the KV cache does not fit, or holds less than max_model_len asks for.
    """
    cache, scheduler = settings.cache, settings.scheduler
    groups = kv_groups(model.kv_layers, kv_dtype)
    sizes: dict[str, Any] = {
        "block_size": cache.block_size,
        "max_model_len": max_model_len,
        "max_num_seqs": scheduler.max_num_seqs,
        "chunk": _chunk(scheduler),
    }
    memory = cache.memory
    if memory is None:
        beside = _activation_bytes(model, settings, kv_dtype, device)
        if _uses_graphs(settings, device):
            beside += _graph_bytes(model, settings, kv_dtype, device, max_model_len)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # What the measurements have left in torch's hands counts as used otherwise.
        memory = memory_left(device, beside)
        token_bytes = sum(group.token_bytes for group in groups)
        memory = memory * token_bytes // (token_bytes + draft_token_bytes)
        memory = min(memory, full_cache_bytes(groups, **sizes))
    layout = plan_layout(groups, memory=memory, **sizes)
    if settings.model_settings.max_model_len is not None and layout.max_tokens < max_model_len:
        raise OutOfMemoryError(
            f"kv_cache_memory: {memory} bytes hold {layout.max_tokens} tokens of one sequence, "
            f"max_model_len asks for {max_model_len}; allow more memory or fewer tokens"
        )
    if layout.max_tokens < max_model_len:
        logger.warning("the KV cache bounds sequences to %d of %d tokens", layout.max_tokens, max_model_len)
    try:
        caches = allocate_kv_cache(layout, model.kv_layers, kv_dtype, device)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(f"kv_cache_memory: {layout.total_bytes} bytes cannot be allocated: {error}") from error
    runner = Runner(
        model,
        layout,
        caches,
        max_num_seqs=scheduler.max_num_seqs,
        device=device,
        batch_invariant=settings.model_settings.batch_invariant,
    )
    if _uses_graphs(settings, device):
        try:
            runner.capture_graphs()
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"kv_cache_memory: {layout.total_bytes} bytes leave no room for CUDA graphs; "
                f"allow less, or enforce_eager: {error}"
            ) from error
    return layout, runner


def _uses_graphs(settings: EngineSettings, device: torch.device) -> bool:
    return device.type == "cuda" and not settings.model_settings.enforce_eager


def _graph_bytes(
    model: CausalLM, settings: EngineSettings, kv_dtype: torch.dtype, device: torch.device, max_model_len: int
) -> int:
    """Measure what recorded decode steps take beside weights and KV cache, over a cache of one block a group."""
    groups = kv_groups(model.kv_layers, kv_dtype)
    layout = KVCacheLayout(settings.cache.block_size, groups, (2,) * len(groups), max_model_len)
    caches = allocate_kv_cache(layout, model.kv_layers, kv_dtype, device)
    runner = Runner(model, layout, caches, max_num_seqs=settings.scheduler.max_num_seqs, device=device)
    return graph_bytes(runner.make_graphs(), device)


def _activation_bytes(model: CausalLM, settings: EngineSettings, kv_dtype: torch.dtype, device: torch.device) -> int:
    """Measure the activations of the largest step: on CUDA in full, on the CPU, where time counts, by a sample."""
    scheduler, block_size = settings.scheduler, settings.cache.block_size
    budget = scheduler.max_num_batched_tokens
    tokens = budget if device.type == "cuda" else min(budget, PROFILE_TOKENS)
    tokens = min(tokens, model.max_position)
    groups = kv_groups(model.kv_layers, kv_dtype)
    blocks = -(-tokens // block_size)
    layout = KVCacheLayout(block_size, groups, (blocks + 1,) * len(groups), tokens)
    caches = allocate_kv_cache(layout, model.kv_layers, kv_dtype, device)
    model.bind_kv_cache(caches, [layout.group_of_layer(i) for i in range(len(caches))])
    request = Request("profile", [0] * tokens, SamplingParams(), 0, 0.0, 0, 1)
    sequence = request.sequences[0]
    sequence.blocks = [list(range(1, blocks + 1)) for _ in groups]
    plan = StepPlan(scheduled=[ScheduledSequence(sequence, 0, tokens)], num_tokens=tokens)
    drafted = 0 if settings.speculation is None else settings.speculation.num_speculative_tokens
    rows = min(scheduler.max_num_seqs * (1 + drafted), budget)

    @torch.inference_mode()
    def work() -> None:
        batch = build_batch(plan, len(groups), block_size, device)
        hidden = model(batch.input_ids, batch.context)
        logits = model.logits(hidden[-1:].expand(min(rows, 16), -1))
        torch.log_softmax(logits, dim=-1)

    peak = measure_peak(device, work)
    logits_bytes = 3 * 4 * model.vocab_size * max(0, rows - 16)
    return peak * -(-budget // tokens) + logits_bytes


def _describe(
    model: CausalLM,
    checkpoint: Checkpoint,
    layout: KVCacheLayout,
    settings: EngineSettings,
    dtype: torch.dtype,
    device: torch.device,
    seconds: float,
) -> ModelInfo:
    num_parameters, weight_bytes = model.sizes()
    return ModelInfo(
        family=checkpoint.model_type,
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        max_model_len=layout.max_tokens,
        vocab_size=model.vocab_size,
        num_parameters=num_parameters,
        weight_bytes=weight_bytes,
        block_size=layout.block_size,
        num_kv_blocks=sum(count - 1 for count in layout.num_blocks),
        kv_cache_bytes=layout.total_bytes,
        max_num_seqs=min(settings.scheduler.max_num_seqs, settings.scheduler.max_num_batched_tokens),
        max_num_batched_tokens=settings.scheduler.max_num_batched_tokens,
        eos_token_ids=checkpoint.eos_token_ids,
        default_sampling=checkpoint.default_sampling,
        load_seconds=seconds,
        quantization=settings.model_settings.quantization or checkpoint.quantization_method,
        max_queue_time=settings.scheduler.max_queue_time,
    )
