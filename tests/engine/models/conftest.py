"""Drives a model through the real scheduler and KV cache on given tokens, and records its logits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from lepton_engine.config import SchedulerSettings
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.kv_layout import KVCacheLayout, group_layers
from lepton_engine.core.plan import StepPlan, StepResult
from lepton_engine.core.request import Request
from lepton_engine.core.scheduler import Scheduler
from lepton_engine.models.base import CausalLM
from lepton_engine.models.loader import load_model
from lepton_engine.runtime.batch import build_batch
from lepton_engine.runtime.kv_memory import allocate_kv_cache
from lepton_engine.runtime.runner import Runner
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.weights.checkpoint import open_checkpoint

CPU = torch.device("cpu")
BLOCK = 4


@dataclass(frozen=True)
class Lesson:
    """A prompt and the tokens that are to follow it, whatever the model would sample."""

    prompt: list[int]
    forced: list[int]


@dataclass(frozen=True)
class Done:
    outcome: StepResult

    def result(self) -> StepResult:
        return self.outcome


@dataclass
class Teacher:
    """The engine's scheduler over a model, with the tokens dictated; logits are recorded by request and position."""

    model: CausalLM
    blocks: int
    settings: SchedulerSettings
    dtype: torch.dtype = torch.float32
    logits: dict[str, dict[int, torch.Tensor]] = field(default_factory=dict)
    arrivals: int = 0

    def __post_init__(self) -> None:
        groups = group_layers(self.model.kv_layers, self.dtype.itemsize)
        layout = KVCacheLayout(BLOCK, groups, (self.blocks + 1,) * len(groups), self.blocks * BLOCK)
        chunk = self.settings.max_prefill_chunk or self.settings.max_num_batched_tokens
        self.scheduler = Scheduler(self.settings, KVCacheManager(layout, chunk=chunk))
        caches = allocate_kv_cache(layout, self.model.kv_layers, self.dtype, CPU)
        # Unwritten slots hold NaN, so that reading one cannot go unnoticed.
        for keys, values in caches:
            keys.fill_(torch.nan)
            values.fill_(torch.nan)
        self.runner = Runner(self.model, layout, caches, max_num_seqs=self.scheduler.max_running, device=CPU)
        self._groups = len(groups)

    def run(self, lessons: dict[str, Lesson], urgent: dict[str, Lesson] | None = None) -> None:
        """Run lessons together; the urgent ones come, with a better priority, when the others are half through."""
        self._submit(lessons, priority=1)
        everything = lessons | (urgent or {})
        half = sum(len(lesson.forced) for lesson in lessons.values()) // 2
        start = self.scheduler.generated_tokens
        while self.scheduler.has_work:
            plan = self.scheduler.schedule(time.monotonic())
            self.scheduler.settle(plan, self._step(plan, everything))
            assert self.scheduler.problems() == []
            if urgent and self.scheduler.generated_tokens - start >= half:
                self._submit(urgent, priority=0)
                urgent = None

    def _submit(self, lessons: dict[str, Lesson], priority: int) -> None:
        for key, lesson in lessons.items():
            length = len(lesson.forced)
            self.arrivals += 1
            self.scheduler.submit(
                Request(key, lesson.prompt, SamplingParams(), self.arrivals, 0.0, 0, length, priority=priority)
            )

    @torch.inference_mode()
    def _step(self, plan: StepPlan, lessons: dict[str, Lesson]) -> StepResult:
        self.runner._copy_blocks(plan)
        batch = build_batch(plan, self._groups, BLOCK, CPU)
        logits = self.model.logits(self.model(batch.input_ids, batch.context)[batch.sample_rows])
        tokens = []
        for sample, row in zip(plan.samples, logits, strict=True):
            key, position = sample.sequence.request.key, sample.sequence.num_generated - 1
            self.logits.setdefault(key, {})[position] = row
            tokens.append(lessons[key].forced[position])
        return StepResult(tokens, [False] * len(tokens), [None] * len(tokens))

    def recorded(self, key: str) -> torch.Tensor:
        """[positions, vocab_size] of a request."""
        return torch.stack([row for _, row in sorted(self.logits[key].items())])


def randomised(module: Any, seed: int) -> Any:
    """Weights large enough for spread logits; no norm weight at one, no bias at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(0.3 * noise)
    return module.eval()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., CausalLM]:
    """Saves a `transformers` module as a sharded checkpoint and loads it the ordinary way."""

    def load_module(module: Any, dtype: torch.dtype = torch.float32) -> CausalLM:
        module.save_pretrained(tmp_path, max_shard_size="40KB")
        return load_model(open_checkpoint(tmp_path), dtype=dtype, device=CPU)

    return load_module


@pytest.fixture
def teach() -> Callable[..., Teacher]:
    """Makes a `Teacher`: model, number of KV blocks, scheduler settings."""
    return Teacher


@pytest.fixture
def lesson() -> Callable[[Sequence[int], Sequence[int]], Lesson]:
    return lambda prompt, forced: Lesson(list(prompt), list(forced))


@pytest.fixture
def randomise() -> Callable[[Any, int], Any]:
    return randomised
