"""The plan of native steps against the modules that it replaces."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from lepton_engine.core.kv_layout import KVCacheLayout, group_layers
from lepton_engine.kernels.batch import BatchContext, KVGroupBatch
from lepton_engine.kernels.cpu import native
from lepton_engine.runtime.kv_memory import allocate_kv_cache

pytestmark = pytest.mark.skipif(
    native() is None or native().isa == "baseline",  # type: ignore[union-attr]
    reason="no native kernels, or none worth packing for",
)

CPU = torch.device("cpu")
BLOCK_SIZE = 4
VOCABULARY = 83
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.06, torch.float16: 8e-3}


def module_of(seed: int) -> Any:
    """A random shape of a random family."""
    rng = random.Random(seed)
    kv_heads, group, dim = rng.choice((1, 2, 3)), rng.choice((1, 2, 3)), rng.choice((8, 16, 18))
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "num_hidden_layers": rng.randint(1, 3),
        "hidden_size": kv_heads * group * rng.choice((4, 7, 11)),
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "intermediate_size": rng.choice((37, 48, 96)),
        "tie_word_embeddings": rng.random() < 0.5,
        "max_position_embeddings": 128,
    }
    window: dict[str, Any] = {"use_sliding_window": True, "sliding_window": rng.randint(2, 30), "max_window_layers": 1}
    family = rng.choice(("llama", "mistral", "qwen3"))
    if family == "llama":
        biases: dict[str, Any] = {"attention_bias": rng.random() < 0.5, "mlp_bias": rng.random() < 0.5}
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, **biases))
    if family == "mistral":
        return transformers.MistralForCausalLM(
            transformers.MistralConfig(**shape, sliding_window=window["sliding_window"])
        )
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape, **window))


def batch_of(rng: random.Random, num_groups: int, num_blocks: int) -> tuple[torch.Tensor, BatchContext]:
    """Sequences of random lengths, some with one new token, some with many, over blocks that lie anywhere."""
    lens = []
    for _ in range(rng.randint(1, 6)):
        seq = rng.randint(1, 60)
        lens.append((1 if rng.random() < 0.5 else rng.randint(1, seq), seq))
    tokens = sum(query for query, _ in lens)
    positions = torch.cat([torch.arange(seq - query, seq) for query, seq in lens])
    groups = []
    for _ in range(num_groups):
        blocks = rng.sample(range(1, num_blocks), sum(-(-seq // BLOCK_SIZE) for _, seq in lens))
        table = torch.zeros(len(lens), 16, dtype=torch.int32)
        slots = []
        for row, (query, seq) in enumerate(lens):
            own = [blocks.pop() for _ in range(-(-seq // BLOCK_SIZE))]
            table[row, : len(own)] = torch.tensor(own)
            slots += [own[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE for at in range(seq - query, seq)]
        groups.append(KVGroupBatch(table, torch.tensor(slots)))
    context = BatchContext(
        positions=positions,
        query_start=torch.tensor([0, *[query for query, _ in lens]]).cumsum(0).to(torch.int32),
        seq_lens=torch.tensor([seq for _, seq in lens], dtype=torch.int32),
        query_lens=tuple(query for query, _ in lens),
        max_seq_len=max(seq for _, seq in lens),
        groups=tuple(groups),
    )
    return torch.tensor([rng.randrange(VOCABULARY) for _ in range(tokens)]), context


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("seed", range(12))
@torch.inference_mode()
def test_plan_is_what_the_modules_are(
    seed: int, dtype: torch.dtype, load: Callable[..., Any], randomise: Callable[[Any, int], Any]
) -> None:
    torch.set_num_threads(1 + seed % 3)
    model = load(randomise(module_of(seed), seed), dtype)
    groups = group_layers(model.kv_layers, dtype.itemsize)
    num_blocks = 100
    layout = KVCacheLayout(BLOCK_SIZE, groups, (num_blocks,) * len(groups), 64)
    caches = allocate_kv_cache(layout, model.kv_layers, dtype, CPU)
    generator = torch.Generator().manual_seed(seed)
    for pair in caches:
        for cache in pair:
            cache.copy_(torch.randn(cache.shape, generator=generator))
    model.bind_kv_cache(caches, [layout.group_of_layer(i) for i in range(len(caches))])
    plan = model.plan
    assert plan is not None
    rng = random.Random(seed)
    for _ in range(4):  # batches of several sizes, the buffers stay
        ids, context = batch_of(rng, len(groups), num_blocks)
        before = [cache.clone() for pair in caches for cache in pair]
        planned = model(ids, context)
        planned_caches = [cache.clone() for pair in caches for cache in pair]
        for cache, old in zip([cache for pair in caches for cache in pair], before, strict=True):
            cache.copy_(old)
        model.plan = None
        twin = model(ids, context)
        model.plan = plan
        scale = twin.float().abs().max()
        assert (planned.float() - twin.float()).abs().max() <= TOLERANCE[dtype] * scale
        for cache, wanted in zip([cache for pair in caches for cache in pair], planned_caches, strict=True):
            assert (cache.float() - wanted.float()).abs().max() <= TOLERANCE[dtype] * wanted.float().abs().max()
    torch.set_num_threads(1)


def test_unknown_ids_are_refused(load: Callable[..., Any], randomise: Callable[[Any, int], Any]) -> None:
    model = load(randomise(module_of(0), 0))
    groups = group_layers(model.kv_layers, 4)
    layout = KVCacheLayout(BLOCK_SIZE, groups, (100,) * len(groups), 64)
    caches = allocate_kv_cache(layout, model.kv_layers, torch.float32, CPU)
    model.bind_kv_cache(caches, [layout.group_of_layer(i) for i in range(len(caches))])
    ids, context = batch_of(random.Random(0), len(groups), 100)
    ids[-1] = VOCABULARY
    with pytest.raises(RuntimeError, match="plan"):
        model(ids, context)
