"""Checkpoints of the benchmarks' shapes with random weights, made once in the user's cache folder."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lepton" / "shapes"


@dataclass(frozen=True)
class Shape:
    """A Llama shape; what is not named takes Llama's usual value."""

    name: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    tie_word_embeddings: bool

    def config(self) -> dict[str, Any]:
        """Options of `transformers.LlamaConfig`."""
        options = {name: value for name, value in vars(self).items() if name != "name"}
        return {**options, "max_position_embeddings": 2048, "bos_token_id": 0, "eos_token_id": 1}

    @property
    def layer_weights(self) -> int:
        """Weights of all layers' matrices."""
        head_dim = self.hidden_size // self.num_attention_heads
        attention = 2 * self.hidden_size * head_dim * (self.num_attention_heads + self.num_key_value_heads)
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def head_weights(self) -> int:
        """Weights of the output layer."""
        return self.vocab_size * self.hidden_size

    def read_bytes(self, layer_bits: float, head_bits: float) -> float:
        """Bytes of weights that a decode step has to read, scales counted among the bits of a weight."""
        return (self.layer_weights * layer_bits + self.head_weights * head_bits) / 8


SHAPES = {
    "135M": Shape("135M", 49152, 576, 30, 9, 3, 1536, tie_word_embeddings=True),
    "1B": Shape("1B", 32000, 2048, 16, 32, 8, 8192, tie_word_embeddings=False),
    "tiny": Shape("tiny", 512, 64, 2, 4, 2, 128, tie_word_embeddings=True),
}


def checkpoint(name: str, dtype: str = "bfloat16") -> Path:
    """The folder of a shape's checkpoint; a half-made one is never left under its name."""
    folder = CACHE / f"{name}-{dtype}"
    if not folder.is_dir():
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        making.mkdir(parents=True)
        try:
            _make(SHAPES[name], dtype, making)
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return folder


def _make(shape: Shape, dtype: str, folder: Path) -> None:
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(**shape.config(), dtype=dtype)
    model = transformers.LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    # Requests are token ids; the tokenizer only has to exist and to decode what it knows.
    vocabulary = {f"<{i}>": i for i in range(shape.vocab_size)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<0>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<1>"}))
