"""Filling a model from a checkpoint: names of every kind of file, and what is missing, left over or misshapen."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lepton_engine.errors import ModelLoadError, UnsupportedModelError
from lepton_engine.models.base import CausalLM
from lepton_engine.models.loader import load_model
from lepton_engine.weights.checkpoint import Checkpoint, from_module, open_checkpoint

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]


def llama(**options: Any) -> Any:
    shape = {"vocab_size": 53, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 0}
    merged: dict[str, Any] = {**shape, **heads, "eos_token_id": 1, **options}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**merged))


def gpt2(**options: Any) -> Any:
    merged: dict[str, Any] = {"vocab_size": 53, "n_embd": 24, "n_head": 4, "n_layer": 2, "n_positions": 64}
    merged |= {"bos_token_id": 0, "eos_token_id": 1, **options}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**merged))


def load(module: Any, change: Callable[[Tensors], object] = lambda _: None) -> CausalLM:
    """Loads a module's tensors after a change to them."""
    tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    change(tensors)
    config = module.config.to_dict() | {"architectures": [type(module).__name__]}
    return load_model(Checkpoint("here", config, {}, tensors), dtype=torch.float32, device=CPU)


def same_weights(one: CausalLM, other: CausalLM) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("suffix", ["safetensors", "bin", "old bin"])
@pytest.mark.parametrize("sharded", [False, True])
def test_every_kind_of_file(make: Callable[..., Any], suffix: str, sharded: bool, tmp_path: Path) -> None:
    module = make()
    module.save_pretrained(tmp_path, max_shard_size="6KB" if sharded else "1GB")
    if suffix != "safetensors":
        to_pytorch_files(tmp_path, archive=suffix == "bin")
    loaded = load_model(open_checkpoint(tmp_path), dtype=torch.float32, device=CPU)
    assert same_weights(loaded, load_model(from_module(module), dtype=torch.float32, device=CPU))


def to_pytorch_files(folder: Path, *, archive: bool) -> None:
    from safetensors.torch import load_file

    for path in folder.glob("*.safetensors"):
        target = folder / path.name.replace("model", "pytorch_model", 1).replace(".safetensors", ".bin")
        torch.save(load_file(path), target, _use_new_zipfile_serialization=archive)
        path.unlink()
    for index in folder.glob("*.index.json"):
        text = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        (folder / "pytorch_model.bin.index.json").write_text(text)
        index.unlink()


def test_dtype_of_the_model_not_of_the_file() -> None:
    model = load_model(from_module(llama()), dtype=torch.bfloat16, device=CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_tied_weights_are_one() -> None:
    tied, untied = load(llama(tie_word_embeddings=True)), load(llama())
    assert untied.sizes()[0] - tied.sizes()[0] == 53 * 24
    assert load(gpt2()).sizes()[0] == sum(parameter.numel() for parameter in gpt2().parameters())


def test_gpt2_files_of_before_the_outer_name() -> None:
    module = gpt2()

    def original(tensors: Tensors) -> None:
        for name in list(tensors):
            tensor = tensors.pop(name)
            if name.startswith("transformer."):
                tensors[name.removeprefix("transformer.")] = tensor
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
        tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)

    assert same_weights(load(module, original), load(module))


def test_buffers_of_old_files_are_let_through() -> None:
    module = llama()
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    assert same_weights(load(module, lambda tensors: tensors.update({name: torch.ones(3)})), load(module))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (llama, "model.embed_tokens.weight"),
        (llama, "model.layers.1.self_attn.k_proj.weight"),
        (llama, "model.norm.weight"),
        (llama, "lm_head.weight"),
        (gpt2, "transformer.h.1.mlp.c_fc.bias"),
        (gpt2, "transformer.wpe.weight"),
    ],
)
def test_missing(make: Callable[..., Any], name: str) -> None:
    with pytest.raises(ModelLoadError, match=f"here: tensors are missing: {name}$"):
        load(make(), lambda tensors: tensors.pop(name))


@pytest.mark.parametrize(
    ("make", "name", "shape", "message"),
    [
        (llama, "model.embed_tokens.weight", (53, 25), r"has shape \[53, 25\], config.json asks for \[53, 24\]"),
        (llama, "model.layers.0.self_attn.q_proj.weight", (12, 24), r"has shape \[12, 24\], .* \[24, 24\]"),
        (llama, "model.layers.0.self_attn.k_proj.weight", (24, 24), r"has shape \[24, 24\], .* \[12, 24\]"),
        (llama, "model.norm.weight", (1,), r"has shape \[1\], config.json asks for \[24\]"),
        (gpt2, "transformer.h.0.mlp.c_fc.weight", (96, 24), r"has shape \[96, 24\], .* \[24, 96\]"),
        (gpt2, "transformer.wpe.weight", (63, 24), r"has shape \[63, 24\], config.json asks for \[64, 24\]"),
    ],
)
def test_wrong_shape(make: Callable[..., Any], name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelLoadError, match=f"here: tensor {name} {message}"):
        load(make(), lambda tensors: tensors.update({name: torch.zeros(shape)}))


def test_wrong_dtype() -> None:
    name = "model.norm.weight"
    with pytest.raises(ModelLoadError, match=f"tensor {name} is of torch.int8, not floating point"):
        load(llama(), lambda tensors: tensors.update({name: torch.zeros(24, dtype=torch.int8)}))


@pytest.mark.parametrize(
    "name",
    ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.sinks"],
)
def test_left_over(name: str) -> None:
    with pytest.raises(ModelLoadError, match=f"here: tensors have no place in the model: {name}$"):
        load(llama(), lambda tensors: tensors.update({name: torch.zeros(2)}))


def test_beyond_the_context() -> None:
    model = load(llama())
    model.extend(100)
    assert model.max_position == 100
    with pytest.raises(UnsupportedModelError, match="embeddings for 64 positions"):
        load(gpt2()).extend(65)
    dynamic = load(llama(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}))
    with pytest.raises(UnsupportedModelError, match="beyond max_position_embeddings, 64"):
        dynamic.extend(65)


def test_loading_imports_no_sympy(tmp_path: Path) -> None:
    # Some paths through torch import it, which takes a second and tens of megabytes.
    llama().save_pretrained(tmp_path)
    code = (
        "import sys, torch\n"
        "from lepton_engine.models.loader import load_model\n"
        "from lepton_engine.weights.checkpoint import open_checkpoint\n"
        f"load_model(open_checkpoint({str(tmp_path)!r}), dtype=torch.float32, device=torch.device('cpu'))\n"
        "sys.exit('sympy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
