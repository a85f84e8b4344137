"""Whole models with quantised weights, against the same model with the dequantised ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lepton_engine.errors import InvalidRequestError, ModelLoadError, UnsupportedModelError
from lepton_engine.kernels import dispatch
from lepton_engine.kernels.kv_scales import KV_DTYPES
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.layers.linear import Linear
from lepton_engine.models.base import CausalLM
from lepton_engine.models.loader import load_model
from lepton_engine.quantization.rounding import quantize_weight
from lepton_engine.quantization.scheme import Scheme, parse_scheme
from lepton_engine.weights.checkpoint import Checkpoint, from_module, open_checkpoint

CPU = torch.device("cpu")
IDS = [3, 17, 44, 9, 60, 2, 31, 17]
Logits = Callable[..., torch.Tensor]


def load(checkpoint: Checkpoint, scheme: str | None = None, dtype: torch.dtype = torch.float32) -> CausalLM:
    return load_model(
        checkpoint, dtype=dtype, device=CPU, quantization=None if scheme is None else parse_scheme(scheme)
    )


def linears(module: Any) -> list[str]:
    """Names of the layers whose weights are quantised."""
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear | transformers.pytorch_utils.Conv1D) and name != "lm_head"
    ]


def rounded(module: Any, scheme: Scheme) -> Any:
    """The module with its weights quantised and dequantised; of GPT-2, whose weights are transposed, too."""
    with torch.no_grad():
        for name in linears(module):
            layer = module.get_submodule(name)
            turned = isinstance(layer, transformers.pytorch_utils.Conv1D)
            weight = layer.weight.t().contiguous() if turned else layer.weight
            value = quantize_weight(weight, scheme).dequantize(torch.float32)
            layer.weight.copy_(value.t() if turned else value)
    return module


def expected(module: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = module(torch.tensor([IDS])).logits[0]
    return logits


@pytest.mark.parametrize("scheme", ["int8", "int4-g32", "int4-g64-asym", "int4-g128", "fp8"])
def test_quantised_on_load(
    scheme: str, make_llama: Callable[..., Any], logits_of: Logits, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = expected(rounded(make_llama(), parse_scheme(scheme)))
    packed = logits_of(load(from_module(make_llama()), scheme), IDS)
    # On some processors int4 takes inputs in int8, per group.
    assert (packed - reference).square().mean().sqrt() < 0.02 * reference.std()
    monkeypatch.setattr(dispatch, "pack", lambda *_, **__: None)
    torch.testing.assert_close(logits_of(load(from_module(make_llama()), scheme), IDS), reference, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("unpacked")
def test_gpt2_quantised_on_load(logits_of: Logits) -> None:
    def make() -> Any:
        torch.manual_seed(2)
        config = transformers.GPT2Config(
            vocab_size=61, n_embd=64, n_head=4, n_layer=2, n_positions=32, bos_token_id=0, eos_token_id=1
        )
        module: Any = transformers.GPT2LMHeadModel(config)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
        module.eval()
        return module

    reference = expected(rounded(make(), parse_scheme("int4-g32")))
    torch.testing.assert_close(logits_of(load(from_module(make()), "int4-g32"), IDS), reference, rtol=1e-3, atol=1e-4)


def test_w8a8_is_near_the_plain_model(make_llama: Callable[..., Any], logits_of: Logits) -> None:
    module = make_llama()
    plain = expected(module)
    found = logits_of(load(from_module(module), "int8-w8a8"), IDS)
    assert not torch.equal(found, logits_of(load(from_module(module), "int8"), IDS))
    assert (found - plain).square().mean().sqrt() < 0.05 * plain.std()


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("tied", [False, True])
def test_output_layer_in_int8(tied: bool, make_llama: Callable[..., Any], logits_of: Logits) -> None:
    module = make_llama(tie_word_embeddings=tied)
    model = load(from_module(module), "int4-g32+head")
    reference = rounded(make_llama(tie_word_embeddings=tied), parse_scheme("int4-g32"))
    head = quantize_weight(reference.lm_head.weight.detach(), Scheme("int8")).dequantize(torch.float32)
    with torch.no_grad():
        hidden = reference.model(torch.tensor([IDS])).last_hidden_state[0]
    torch.testing.assert_close(logits_of(model, IDS), hidden @ head.t(), rtol=1e-3, atol=1e-4)
    assert isinstance(model.vocabulary.embedding, torch.Tensor)


@pytest.mark.usefixtures("unpacked")
def test_memory_is_that_of_the_quantised_weights(make_llama: Callable[..., Any]) -> None:
    module = make_llama()
    plain, quantized = load(from_module(module)), load(from_module(module), "int4-g32")
    weights = [layer.weight for layer in quantized.modules() if isinstance(layer, Linear)]
    assert all(isinstance(weight, QuantizedWeight) for weight in weights)
    assert plain.sizes()[0] == quantized.sizes()[0]
    inner = sum(module.get_submodule(name).weight.numel() for name in linears(module))
    # Half a byte a value and a float32 scale for each 32 of them, instead of four bytes.
    assert quantized.sizes()[1] == plain.sizes()[1] - inner * 4 + inner // 2 + inner // 32 * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype, make_llama: Callable[..., Any], logits_of: Logits) -> None:
    module = make_llama()
    reference = expected(rounded(make_llama(), parse_scheme("int8")))
    found = logits_of(load(from_module(module), "int8", dtype), IDS)
    assert (found - reference).abs().max() < 0.05 * reference.abs().max()


@pytest.mark.parametrize("name", sorted(KV_DTYPES))
def test_quantised_kv_cache(name: str, make_llama: Callable[..., Any], logits_of: Logits) -> None:
    module = make_llama()
    model = load(from_module(module))
    plain = logits_of(model, IDS)
    found = logits_of(model, IDS, KV_DTYPES[name])
    assert not torch.equal(found, plain)
    assert (found - plain).square().mean().sqrt() < (0.02 if name == "int8" else 0.08) * plain.std()


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
SPLITS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "all": ({"group_0": {"targets": ["Linear"], "weights": INT4}}, ("lm_head",)),
    "output layer too": ({"group_0": {"targets": ["Linear"], "weights": INT8}}, ()),
    "a part of a fused layer is plain": (
        {"group_0": {"targets": ["Linear"], "weights": INT4}},
        ("lm_head", "re:.*v_proj$", "model.layers.1.mlp.up_proj"),
    ),
    "parts of a fused layer differ": (
        {
            "a": {"targets": ["re:.*q_proj$", "re:.*down_proj$"], "weights": INT8},
            "b": {"targets": ["Linear"], "weights": FP8},
        },
        ("lm_head", "re:.*layers.1.*"),
    ),
}


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("split", SPLITS)
def test_checkpoints_of_compressed_tensors(
    split: str, compressed: Callable[..., tuple[Path, Any]], logits_of: Logits
) -> None:
    folder, module = compressed(*SPLITS[split])
    model = load(open_checkpoint(folder))
    torch.testing.assert_close(logits_of(model, IDS), expected(module), rtol=1e-3, atol=1e-4)


# -- what is wrong about a checkpoint ---------------------------------------------------------------------------------

Tensors = dict[str, torch.Tensor]
UP = "model.layers.0.mlp.up_proj"


@pytest.fixture
def damaged(compressed: Callable[..., tuple[Path, Any]]) -> Callable[..., Checkpoint]:
    """An int4 checkpoint with zero points, after a change to its tensors, or to its quantization_config."""

    def make(change: Callable[[Tensors], object] = lambda _: None, **settings: Any) -> Checkpoint:
        folder, _ = compressed(*SPLITS["all"])
        found = open_checkpoint(folder)
        tensors = {name: found.tensor(name) for name in found.names()}
        change(tensors)
        own = {**found.config["quantization_config"], **settings}
        return Checkpoint("here", {**found.config, "quantization_config": own}, {}, tensors)

    return make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{UP}.weight_scale"), r"up_proj\.weight_scale is missing"),
        (lambda t: t.pop(f"{UP}.weight_zero_point"), r"up_proj\.weight_zero_point is missing"),
        (lambda t: t.pop(f"{UP}.weight_packed"), r"up_proj\.weight_packed is missing"),
        (
            lambda t: t.update({f"{UP}.weight_scale": torch.ones(256, 3)}),
            r"weight_scale has shape \[256, 3\], \[256, 4\]",
        ),
        (
            lambda t: t.update({f"{UP}.weight_zero_point": torch.ones(256, 4, dtype=torch.int32)}),
            r"weight_zero_point has shape \[256, 4\], \[32, 4\] is needed",
        ),
        (lambda t: t[f"{UP}.weight_scale"].fill_(float("inf")), r"weight_scale has scales that are infinite or NaN"),
        (lambda t: t[f"{UP}.weight_scale"].fill_(0), r"weight_scale has \d+ scales of zero over values that are not"),
        (lambda t: t[f"{UP}.weight_shape"].fill_(7), r"weight_shape says \[7, 7\], config.json asks for \[256, 128\]"),
        (lambda t: t.update({"model.layers.0.mlp.nothing": torch.ones(1)}), r"no place in the model: .*nothing"),
        (lambda t: t.pop("model.norm.weight"), r"tensors are missing: model\.norm\.weight"),
        (lambda t: t.update({"lm_head.weight_scale": torch.ones(61, 1)}), r"none means lm_head"),
    ],
)
def test_damaged_tensors(change: Callable[[Tensors], object], message: str, damaged: Callable[..., Checkpoint]) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load(damaged(change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{UP}.weight_scale"), r"up_proj\.weight_scale is missing"),
        (lambda t: t.update({f"{UP}.weight_scale": torch.ones(256)}), r"has shape \[256\], \[256, 1\] is needed"),
        (lambda t: t[f"{UP}.weight_scale"].fill_(0), r"weight_scale has \d+ scales of zero over values that are not"),
        (lambda t: t[f"{UP}.weight_scale"].fill_(float("nan")), r"weight_scale has scales that are infinite or NaN"),
        (lambda t: t.update({f"{UP}.weight": torch.ones(256, 128)}), r"up_proj\.weight is of torch\.float32"),
    ],
)
@pytest.mark.parametrize("weights", ["int8", "fp8"])
def test_damaged_tensors_of_8_bits(
    weights: str, change: Callable[[Tensors], object], message: str, compressed: Callable[..., tuple[Path, Any]]
) -> None:
    group = {"targets": ["Linear"], "weights": INT8 if weights == "int8" else FP8}
    folder, _ = compressed({"group_0": group}, form="int-quantized" if weights == "int8" else None)
    found = open_checkpoint(folder)
    tensors = {name: found.tensor(name) for name in found.names()}
    change(tensors)
    with pytest.raises(ModelLoadError, match=message):
        load(Checkpoint("here", found.config, {}, tensors))


@pytest.mark.parametrize("bits", [0x7F, 0xFF])
def test_stored_values_of_fp8_that_are_not_numbers(bits: int, compressed: Callable[..., tuple[Path, Any]]) -> None:
    folder, _ = compressed({"group_0": {"targets": ["Linear"], "weights": FP8}})
    found = open_checkpoint(folder)
    tensors = {name: found.tensor(name) for name in found.names()}
    tensors[f"{UP}.weight"].view(torch.uint8)[3, 4] = bits
    with pytest.raises(ModelLoadError, match=r"up_proj\.weight has values that are NaN"):
        load(Checkpoint("here", found.config, {}, tensors))


def groups(**weights: Any) -> dict[str, Any]:
    return {"config_groups": {"a": {"targets": ["Linear"], "weights": {**INT4, **weights}}}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quant_method": "bitsandbytes"}, "quant_method is 'bitsandbytes', one of awq, compressed-tensors, gptq"),
        ({"config_groups": {}}, "config_groups is missing"),
        (
            {"config_groups": {"a": {"targets": ["Linear"], "weights": INT4, "format": "nvfp4-pack-quantized"}}},
            r"config_groups\.a\.format is 'nvfp4-pack-quantized', one of pack-quantized",
        ),
        ({"ignore": "lm_head"}, "ignore is 'lm_head', a list"),
        ({"ignore": ["re:("]}, r"'\(' is no expression"),
        ({"transform_config": {"config_groups": {"u": {}}}}, "transform_config is not supported"),
        (groups(num_bits=3), "num_bits is 3 of 'int'"),
        (groups(group_size=48), "group_size is 48, which does not divide the 128 inputs of model.layers.0"),
        (groups(group_size=None), "group_size is -1, an integer of at least 1"),
        (groups(strategy="tensor_group"), "strategy is 'tensor_group', one of tensor, channel, group, block"),
        (groups(actorder="group"), r"weight_g_idx is missing"),
        ({"config_groups": {"a": {"targets": [], "weights": INT4}}}, r"config_groups\.a\.targets is \[\]"),
        ({"config_groups": {"a": {"targets": ["Linear"]}}}, r"config_groups\.a\.weights is missing"),
    ],
)
def test_damaged_configurations(settings: dict[str, Any], message: str, damaged: Callable[..., Checkpoint]) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load(damaged(**settings))


def test_a_quantised_checkpoint_is_not_quantised_again(damaged: Callable[..., Checkpoint]) -> None:
    with pytest.raises(InvalidRequestError, match=r"quantization: 'int8'.* quantised already \(compressed-tensors\)"):
        load(damaged(), "int8")


def test_a_scheme_that_the_device_lacks(make_llama: Callable[..., Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"'fp8-w8a8' needs a CUDA device of compute capability 8\.9"):
        load(from_module(make_llama()), "fp8-w8a8")


def test_weights_that_cannot_be_quantised(make_llama: Callable[..., Any]) -> None:
    module = make_llama()
    with torch.no_grad():
        module.model.layers[1].self_attn.k_proj.weight[3, 4] = float("inf")
    with pytest.raises(ModelLoadError, match=r"layers\.1\.self_attn\.k_proj\.weight cannot be quantised to int8: 1 of"):
        load(from_module(module), "int8")


def test_scales_of_a_quantised_kv_cache_are_passed_over(damaged: Callable[..., Checkpoint], logits_of: Logits) -> None:
    def add(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.k_scale"] = torch.ones(1)

    assert torch.equal(logits_of(load(damaged(add)), IDS), logits_of(load(damaged()), IDS))


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_the_first_programs_configuration_files(
    name: str, saved: Callable[..., Path], make_llama: Callable[..., Any]
) -> None:
    folder = saved(make_llama())
    (folder / name).write_text('{"bits": 3, "group_size": 32}')
    method = "GPTQ" if name == "quantize_config.json" else "AWQ"
    with pytest.raises(UnsupportedModelError, match=f"quantization_config.bits is 3, .* needed for {method}"):
        load(open_checkpoint(folder))
    (folder / name).unlink()
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.safetensors")
    load(open_checkpoint(folder))
