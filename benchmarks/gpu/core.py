"""The engine's loop over a model that is on the device already, in process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lepton_engine.build import with_kv_cache
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings
from lepton_engine.core.events import Failed, NewTokens
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.scheduler import Scheduler
from lepton_engine.messages import EngineSettings, ModelInfo, Submit
from lepton_engine.models.base import CausalLM
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.step import EngineCore


@dataclass(frozen=True)
class Timing:
    """What a run took.

    Attributes:
        seconds: from the first submission to the last token. arrivals: when each token of the first request came.
    """

    seconds: float
    arrivals: list[float]


def make_core(
    model: CausalLM,
    device: torch.device,
    *,
    max_model_len: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    kv_memory: int | None = None,
    enforce_eager: bool = False,
) -> EngineCore:
    """The engine's core, as `build_core` makes it, without a prefix cache, so that no run feeds the next."""
    scheduler = SchedulerSettings(max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
    settings = EngineSettings(
        model="random",
        model_settings=ModelSettings(device=device.type, enforce_eager=enforce_eager),
        cache=CacheSettings(memory=kv_memory, enable_prefix_caching=False),
        scheduler=scheduler,
    )
    layout, runner = with_kv_cache(model, settings, torch.bfloat16, device, max_model_len)
    cache = KVCacheManager(layout, chunk=max_num_batched_tokens, enable_prefix_caching=False)
    parameters, size = model.sizes()
    info = ModelInfo(
        family="llama",
        dtype="bfloat16",
        device=str(device),
        max_model_len=layout.max_tokens,
        vocab_size=model.vocab_size,
        num_parameters=parameters,
        weight_bytes=size,
        block_size=layout.block_size,
        num_kv_blocks=sum(layout.num_blocks),
        kv_cache_bytes=layout.total_bytes,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        eos_token_ids=[],
        default_sampling={},
        load_seconds=0.0,
    )
    return EngineCore(Scheduler(scheduler, cache), runner, info, overlap=device.type == "cuda")


def run(core: EngineCore, prompts: Sequence[Sequence[int]], outputs: Sequence[int]) -> Timing:
    """Greedy decoding of all prompts together, each to its number of tokens."""
    began = time.perf_counter()
    for index, (prompt, count) in enumerate(zip(prompts, outputs, strict=True)):
        core.handle(
            "benchmark",
            Submit(
                key=str(index),
                prompt_token_ids=list(prompt),
                params=SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True),
                seed=0,
                max_tokens=count,
                stop_token_ids=[],
                bad_word_ids=[],
            ),
        )
    arrivals, open_requests, generated = [], len(prompts), 0
    while open_requests:
        core.step()
        for reply in core.take_replies().get("benchmark", []):
            if isinstance(reply, Failed):
                raise RuntimeError(f"request {reply.key} failed: {reply}")
            if isinstance(reply, NewTokens):
                generated += len(reply.token_ids)
                if reply.key == "0":
                    arrivals += [time.perf_counter() - began] * len(reply.token_ids)
                open_requests -= reply.finish_reason is not None
    seconds = time.perf_counter() - began
    while core._patience() == 0.0:
        core.step()  # the step that was launched while the last token was on its way
    core.take_replies()
    if generated != sum(outputs):
        raise RuntimeError(f"{generated} tokens came, {sum(outputs)} were asked for")
    return Timing(seconds, arrivals)
