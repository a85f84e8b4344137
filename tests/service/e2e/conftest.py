"""A tiny model of random weights, one server of it for all tests that need none of their own, an engine beside it."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lepton_engine import LeptonEngine
from lepton_service.client import LeptonClient
from tests.service.e2e import serving
from tests.service.e2e.serving import Serving

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 257,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "eos_token_id": 256,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
LAYER = {
    "input_layernorm": (32,),
    "post_attention_layernorm": (32,),
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (16, 32),
    "self_attn.v_proj": (16, 32),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (64, 32),
    "mlp.up_proj": (64, 32),
    "mlp.down_proj": (32, 64),
}
# What the model says of itself, whole numbers among it: requests that leave these out take them.
DEFAULTS = {"do_sample": True, "temperature": 0.9, "top_k": 50, "top_p": 0.95}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama checkpoint of random weights with a byte-level tokenizer and a chat template."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": TEMPLATE}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "generation_config.json").write_text(json.dumps(DEFAULTS))
    random = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (257, 32), "lm_head.weight": (257, 32), "model.norm.weight": (32,)}
    for layer in range(2):
        shapes.update({f"model.layers.{layer}.{name}.weight": shape for name, shape in LAYER.items()})
    weights = {
        name: np.ones(shape, np.float32) if len(shape) == 1 else random.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session", autouse=True)
def none_left() -> Iterator[None]:
    yield
    serving.end_all()


@pytest.fixture(scope="session")
def served(tiny: Path) -> Iterator[Serving]:
    """A server whose model is ready. Whoever uses it leaves it without requests."""
    server = serving.start(tiny)
    server.ready()
    (engine,) = server.engines()
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0, server.log
    assert serving.gone(engine)
    assert "killed" not in server.log, "the engine's process must end when it is asked"


@pytest.fixture
def client(served: Serving) -> Iterator[LeptonClient]:
    with LeptonClient(served.target) as found:
        yield found


@pytest.fixture(scope="session")
def local(tiny: Path) -> Iterator[LeptonEngine]:
    """The same model in this process."""
    with LeptonEngine(tiny, num_threads=1, kv_cache_memory=32 << 20) as engine:
        yield engine
