"""A tiny random checkpoint with a tokenizer of its own, and engines over it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lepton_engine import LeptonEngine

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def byte_level_tokenizer() -> Tokenizer:
    """Every byte a token, and an end-of-sequence token: 257 in all."""
    alphabet = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


@pytest.fixture(scope="session")
def tiny_module() -> Any:
    """A Llama of two layers with spread logits, float32, vocabulary 257, end of sequence 256."""
    torch.manual_seed(7)
    config = transformers.LlamaConfig(vocab_size=257, bos_token_id=None, eos_token_id=256, **TINY)
    module: Any = transformers.LlamaForCausalLM(config)
    module.eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 / parameter.shape[-1] ** 0.5)
    return module


@pytest.fixture(scope="session")
def tiny(tiny_module: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_module.save_pretrained(folder)
    byte_level_tokenizer().save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    settings = {"eos_token": "<eos>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def engine_over(tiny: Path) -> Iterator[Callable[..., LeptonEngine]]:
    """Makes engines over the tiny checkpoint; each must be sound and empty when the test ends."""
    made: list[LeptonEngine] = []

    def make(model: Any = tiny, **options: Any) -> LeptonEngine:
        options = {"kv_cache_memory": 1 << 20, "num_threads": 1, "seed": 1, **options}
        made.append(LeptonEngine(model, **options))
        return made[-1]

    yield make
    for engine in made:
        if not engine.closed:
            stats = engine.stats()
            assert engine.integrity() == []
            assert (stats.num_running, stats.num_waiting) == (0, 0)
            assert stats.kv_blocks_free == stats.kv_blocks_total
            engine.shutdown()
