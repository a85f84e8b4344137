"""Checkpoints as transformers writes them, and damaged ones."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lepton_engine.errors import ModelLoadError, UnsupportedModelError
from lepton_engine.models.loader import load_model
from lepton_engine.weights.checkpoint import from_module, open_checkpoint
from lepton_engine.weights.locate import locate_checkpoint
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")


def tiny_llama(**options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        **options,
    )
    return transformers.LlamaForCausalLM(config).eval()


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return load_model(open_checkpoint(folder), dtype=dtype, device=CPU)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny_llama().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    tiny_llama().save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    return tmp_path


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def read_all(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    load_model(checkpoint, dtype=checkpoint.dtype, device=CPU)
    assert checkpoint.eos_token_ids


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: slot.target.clone() for name, slot in model.weight_slots().items()}


def same(one: Any, other: Any) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_every_source_gives_the_same_weights(tmp_path: Path) -> None:
    module = tiny_llama()
    expected = load_model(from_module(module), dtype=torch.float32, device=CPU)
    module.save_pretrained(tmp_path / "single")
    module.save_pretrained(tmp_path / "sharded", max_shard_size="8KB")
    (tmp_path / "torch").mkdir()
    module.config.save_pretrained(tmp_path / "torch")
    torch.save(module.state_dict(), tmp_path / "torch" / "pytorch_model.bin")
    (tmp_path / "torch-sharded").mkdir()
    module.config.save_pretrained(tmp_path / "torch-sharded")
    names = list(module.state_dict())
    weight_map = {}
    for shard, part in enumerate((names[:7], names[7:])):
        file = f"pytorch_model-{shard}.bin"
        torch.save({name: module.state_dict()[name] for name in part}, tmp_path / "torch-sharded" / file)
        weight_map.update(dict.fromkeys(part, file))
    index = tmp_path / "torch-sharded" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for folder in ("single", "sharded", "torch", "torch-sharded"):
        assert same(load(tmp_path / folder), expected), folder


def test_dtype_follows_either_dialect(saved: Path) -> None:
    edit_config(saved, lambda c: c.update(dtype="bfloat16"))
    assert open_checkpoint(saved).dtype is torch.bfloat16
    edit_config(saved, lambda c: (c.pop("dtype"), c.update(torch_dtype="float16")))
    assert open_checkpoint(saved).dtype is torch.float16
    assert load(saved, torch.float16).embedding.dtype is torch.float16


def test_transformers_4_rope_is_read_as_5(saved: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    edit_config(saved, lambda c: c.update(rope_parameters={**scaling, "rope_theta": 5000.0}))
    five = load(saved).rotary.table
    edit_config(saved, lambda c: (c.pop("rope_parameters"), c.update(rope_scaling=scaling, rope_theta=5000.0)))
    assert torch.equal(load(saved).rotary.table, five)
    old_name = {**{k: v for k, v in scaling.items() if k != "rope_type"}, "type": "llama3"}
    edit_config(saved, lambda c: c.update(rope_scaling=old_name))
    assert torch.equal(load(saved).rotary.table, five)


def test_generation_config_rules(saved: Path) -> None:
    path = saved / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [3, 4], "temperature": 0.6, "top_p": 0.9, "do_sample": True}))
    checkpoint = open_checkpoint(saved)
    assert checkpoint.eos_token_ids == [3, 4]
    assert checkpoint.default_sampling == {"temperature": 0.6, "top_p": 0.9}
    path.write_text(json.dumps({"do_sample": False}))
    checkpoint = open_checkpoint(saved)
    assert checkpoint.eos_token_ids == [1]
    assert checkpoint.default_sampling == {"temperature": 0.0}


def test_harmless_leftovers_are_passed_over(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, path)
    load(saved)


def test_missing_shard(sharded: Path) -> None:
    victim = sorted(sharded.glob("*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(ModelLoadError, match=victim.name):
        open_checkpoint(sharded)


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.99])
def test_truncated_shard(sharded: Path, keep: float) -> None:
    victim = max(sharded.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    size = int(keep if keep >= 1 else keep * victim.stat().st_size)
    os.truncate(victim, size)
    with pytest.raises(ModelLoadError, match=f"{victim.name}: is truncated or damaged"):
        load(sharded)


def test_truncated_pytorch_file(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    path = saved / "pytorch_model.bin"
    torch.save(tiny_llama().state_dict(), path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ModelLoadError, match=r"pytorch_model.bin: is truncated or damaged"):
        load(saved)


class _Malicious:
    """Unpickled without care, this makes a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.folder,)


def test_a_pytorch_file_that_would_run_code_is_refused(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    torch.save({"model.norm.weight": _Malicious(str(saved / "pwned"))}, saved / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="could run code"):
        load(saved)
    assert not (saved / "pwned").exists()


def test_no_weights_at_all(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load(saved)


def test_wrong_shape_names_the_tensor(saved: Path) -> None:
    edit_config(saved, lambda c: c.update(intermediate_size=47))
    with pytest.raises(ModelLoadError, match=r"mlp\.gate_proj\.weight has shape \[48, 32\], .* \[47, 32\]"):
        load(saved)


def test_missing_and_extra_tensors_are_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors = load_file(path)
    tensors["model.surprise"] = tensors.pop("model.norm.weight")
    save_file(tensors, path)
    with pytest.raises(ModelLoadError, match=r"missing: model\.norm\.weight"):
        load(saved)
    tensors["model.norm.weight"] = torch.ones(32)
    save_file(tensors, path)
    with pytest.raises(ModelLoadError, match=r"no place in the model: model\.surprise"):
        load(saved)


def test_a_biased_checkpoint_is_not_run_without_its_biases(tmp_path: Path) -> None:
    tiny_llama(attention_bias=True).save_pretrained(tmp_path)
    edit_config(tmp_path, lambda c: c.update(attention_bias=False))
    with pytest.raises(ModelLoadError, match="no place in the model"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "32"}, r"hidden_size is '32', an integer of at least 1"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers is 0, an integer of at least 1"),
        ({"num_attention_heads": 2.5}, r"num_attention_heads is 2.5, an integer"),
        ({"rms_norm_eps": "tiny"}, r"rms_norm_eps is 'tiny', a number"),
        ({"tie_word_embeddings": "yes"}, r"tie_word_embeddings is 'yes', true or false"),
        ({"vocab_size": None}, r"vocab_size is missing"),
        ({"rope_parameters": [1]}, r"rope_parameters is \[1\], a mapping"),
        ({"rope_parameters": {"rope_type": "linear"}}, r"rope_parameters.factor is missing"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "2"}}, r"rope_parameters.factor is '2', a number"),
        ({"dtype": "int3"}, r"dtype is 'int3', known are"),
        ({"eos_token_id": "end"}, r"eos_token_id is 'end'"),
    ],
)
def test_fields_of_the_wrong_type(saved: Path, change: dict[str, Any], message: str) -> None:
    (saved / "generation_config.json").unlink(missing_ok=True)
    edit_config(saved, lambda c: c.update(change))
    with pytest.raises(ModelLoadError, match=message):
        read_all(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba9"}, r"model_type is 'mamba9', known are gpt2, llama"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForCausalLM is needed"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, r"type 'longrope', known are"),
        ({"hidden_act": "snake"}, r"hidden_act is 'snake'"),
        ({"num_key_value_heads": 3}, r"no multiple of num_key_value_heads, 3"),
        ({"quantization_config": {"quant_method": "awq"}}, r"quantization_config is .*awq"),
    ],
)
def test_models_that_cannot_be_run_faithfully(saved: Path, change: dict[str, Any], message: str) -> None:
    edit_config(saved, lambda c: c.update(change))
    with pytest.raises(UnsupportedModelError, match=message):
        load(saved)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\x01"])
def test_damaged_config(saved: Path, content: str) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        open_checkpoint(saved)


def test_original_gpt2_names_without_the_outer_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    module = transformers.GPT2LMHeadModel(config)
    expected = load_model(from_module(module), dtype=torch.float32, device=CPU)
    module.transformer.save_pretrained(tmp_path)
    edit_config(tmp_path, lambda c: c.update(architectures=["GPT2LMHeadModel"]))
    assert same(load(tmp_path), expected)


def test_locating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelLoadError, match=r"is no folder, and .*models--org--name does not exist"):
        locate_checkpoint("org/name")
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    with pytest.raises(ModelLoadError, match="no snapshot of revision"):
        locate_checkpoint("org/name")
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc\n")
    assert locate_checkpoint("org/name") == snapshot
    assert locate_checkpoint("org/name@abc") == snapshot
    assert locate_checkpoint(tmp_path) == tmp_path
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ModelLoadError, match="is a file"):
        locate_checkpoint(file)
