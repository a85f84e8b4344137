"""Small random models of several families, a draft model, and cores over them that are stepped by the test."""

import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lepton_engine.build import build_core
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings, SpeculationSettings
from lepton_engine.core.events import Failed, NewTokens, TokenLogprobs
from lepton_engine.core.request import Sequence
from lepton_engine.kernels.cpu import native
from lepton_engine.messages import EngineSettings, Submit
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.speculation.length import DraftLengths
from lepton_engine.speculation.speculator import Speculator
from lepton_engine.step import EngineCore

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def llama(vocab_size: int = 61) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SHAPE, "vocab_size": vocab_size}))


def mistral() -> Any:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**SHAPE, sliding_window=7))


def qwen2() -> Any:
    options: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SHAPE, **options))


def qwen3() -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SHAPE, head_dim=16))


def gpt2() -> Any:
    size: dict[str, Any] = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 256}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=61, **size, bos_token_id=0, eos_token_id=1))


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gpt2": gpt2,
    "other vocabulary": lambda: llama(67),
}


@dataclass(frozen=True)
class Asked:
    """A request of a schedule and the step at which it comes."""

    prompt: list[int]
    params: SamplingParams
    seed: int
    max_tokens: int
    step: int = 0
    priority: int = 0
    stop: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()


@dataclass
class Got:
    """Of one sequence of a request."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    reason: str | None = None


Outputs = list[dict[int, Got]]


class AnyLengths(DraftLengths):
    """Lengths by chance, most often the longest."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._random = random.Random(most)

    def choose(self, sequences: list[Sequence]) -> list[int]:
        return [self._random.choice([0, 1, self._most, self._most]) for _ in sequences]


class Driver:
    """Runs requests through a core, step by step."""

    def __init__(self, core: EngineCore) -> None:
        self.core = core

    def run(self, asked: list[Asked]) -> Outputs:
        """All of them, each from the step at which it comes."""
        got: defaultdict[str, defaultdict[int, Got]] = defaultdict(lambda: defaultdict(Got))
        waiting = dict(enumerate(asked))
        for step in range(20_000):
            for number in [n for n, request in waiting.items() if request.step <= step]:
                self._submit(number, waiting.pop(number))
            self.core.step()
            assert self.core.integrity() == []
            for reply in self.core.take_replies().get("test", []):
                assert not isinstance(reply, Failed), reply
                if isinstance(reply, NewTokens):
                    own = got[reply.key][reply.index]
                    assert own.reason is None, "told something behind the end"
                    own.tokens += reply.token_ids
                    own.logprobs += reply.logprobs or []
                    own.reason = reply.finish_reason
            if not waiting and not self.core.scheduler.has_work:
                stats = self.core.stats()
                assert stats.kv_blocks_referenced == 0
                assert 0 <= stats.accepted_tokens <= stats.drafted_tokens
                return [dict(got[str(number)]) for number in range(len(asked))]
        raise AssertionError("requests never end")

    def _submit(self, number: int, asked: Asked) -> None:
        self.core.handle(
            "test",
            Submit(
                key=str(number),
                prompt_token_ids=asked.prompt,
                params=asked.params,
                seed=asked.seed,
                max_tokens=asked.max_tokens,
                stop_token_ids=list(asked.stop),
                bad_word_ids=[list(word) for word in asked.bad_words],
                priority=asked.priority,
            ),
        )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's random checkpoint; of "near llama" one whose weights are close to llama's."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(5)
            module = FAMILIES["llama" if name == "near llama" else name]()
            with torch.no_grad():
                for parameter in module.parameters():
                    if parameter.dim() > 1:
                        parameter.normal_(std=1.5 / parameter.shape[-1] ** 0.5)
                if name == "near llama":
                    for parameter in module.parameters():
                        parameter.add_(torch.randn(parameter.shape) * 0.02)
            made[name] = tmp_path_factory.mktemp("checkpoint")
            module.save_pretrained(made[name])
            assert json.loads((made[name] / "config.json").read_text())["vocab_size"]
        return made[name]

    return make


@pytest.fixture
def drive(checkpoint: Callable[[str], Path]) -> Callable[..., Driver]:
    """Makes a core over a family; speculation is None, "ngram", or the name of the draft model's checkpoint."""

    def make(
        family: str = "llama",
        speculation: str | None = None,
        *,
        tokens: int = 3,
        memory: int = 1 << 20,
        block_size: int = 4,
        caching: bool = True,
        scheduler: SchedulerSettings | None = None,
        batch_invariant: bool = True,
        kv_dtype: str = "auto",
        **model: Any,
    ) -> Driver:
        if batch_invariant and native() is None:
            pytest.skip("batch invariance needs the native kernels")
        settings = None
        if speculation == "ngram":
            settings = SpeculationSettings("ngram", tokens, prompt_lookup_min=1)
        elif speculation is not None:
            settings = SpeculationSettings("draft", tokens, str(checkpoint(speculation)))
        core = build_core(
            EngineSettings(
                model=str(checkpoint(family)),
                model_settings=ModelSettings(num_threads=1, device="cpu", batch_invariant=batch_invariant, **model),
                cache=CacheSettings(
                    memory=memory, block_size=block_size, dtype=kv_dtype, enable_prefix_caching=caching
                ),
                scheduler=scheduler or SchedulerSettings(max_num_seqs=6, max_num_batched_tokens=32),
                speculation=settings,
            )
        )
        if isinstance(core._speculator, Speculator):
            core._speculator._lengths = AnyLengths(tokens)  # Drafts come whether they are worth it or not.
        return Driver(core)

    return make


@pytest.fixture
def random_requests() -> Callable[..., list[Asked]]:
    """Requests with every kind of parameter, repetitive prompts and shared prefixes."""

    def make(r: random.Random, count: int = 8, *, greedy: bool = False) -> list[Asked]:
        words = [[r.randrange(2, 61) for _ in range(r.randint(1, 5))] for _ in range(4)]
        shared = [token for _ in range(6) for token in r.choice(words)]
        asked = []
        for number in range(count):
            prompt = shared[: r.randint(1, len(shared))] if r.random() < 0.5 else []
            prompt = prompt + [token for _ in range(r.randint(1, 5)) for token in r.choice(words)]
            max_tokens = r.choice([1, 2, 9, 24])
            params = SamplingParams(
                n=r.choice([1, 1, 1, 2]),
                temperature=0.0 if greedy or r.random() < 0.5 else r.choice([0.3, 1.0]),
                top_p=r.choice([1.0, 1.0, 0.8]),
                top_k=r.choice([0, 0, 5]),
                max_tokens=max_tokens,
                min_tokens=r.choice([0, 0, min(4, max_tokens)]),
                presence_penalty=r.choice([0.0, 0.0, 0.7]),
                repetition_penalty=r.choice([1.0, 1.0, 1.3]),
                logit_bias=r.choice([None, None, {7: 2.0}]),
                logprobs=r.choice([None, 2]),
            )
            asked.append(
                Asked(
                    prompt,
                    params,
                    seed=100 + number,
                    max_tokens=max_tokens,
                    step=r.randint(0, 12),
                    priority=r.choice([0, 0, 1]),
                    stop=r.choice([(), (1,), tuple(range(1, 61, 9))]),
                    bad_words=r.choice([(), ((5, 6), (8,))]),
                )
            )
        return asked

    return make
