"""Wrote the checkpoints beside it, with the packages that write such ones; the tests need none of them.

    uv pip install --no-deps --target P auto-round==0.16.1 autoawq==0.2.7.post3 auto-gptq==0.7.1 \\
        accelerate datasets pandas pyarrow multiprocess dill xxhash py-cpuinfo python-dateutil six && rm -r P/tests
    PYTHONPATH=P python -m tests.engine.quantization.files.make gptq awq gptq-act-order
    uv pip install --no-deps --target Q compressed-tensors==0.10.2
    PYTHONPATH=Q python -m tests.engine.quantization.files.make compressed-tensors-act-order

`gptq` and `awq` are AutoRound's files; those with act-order are packed module by module, by AutoGPTQ and by the last
versions of compressed-tensors that wrote group indices. `values.safetensors` has the weights that AutoGPTQ, AutoAWQ and
compressed-tensors compute with, as [out, in] in float16.
"""

import importlib
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from tests.engine.quantization.weights import spread

HERE = Path(__file__).parent
GROUP = 16


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        dtype="float16",
    )
    module: Any = transformers.LlamaForCausalLM(config)
    module.half().eval()
    spread(module)
    return module


def loaded_alone(package: str, path: str) -> Any:
    """A file of a package, without what else the package imports."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), Path(found.origin).parent / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_auto_round(form: str, target: Path) -> None:
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(61)}, unk_token="t0"))
    fast: Any = transformers.PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=words)
    auto_round: Any = importlib.import_module("auto_round")
    made = auto_round.AutoRound(
        llama(), tokenizer, bits=4, group_size=GROUP, sym=False, iters=0, disable_opt_rtn=True, device_map="cpu"
    )
    with tempfile.TemporaryDirectory() as scratch:
        made.quantize_and_save(scratch, format=form)
        (found,) = Path(scratch).rglob("model.safetensors")
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(found.parent / name, target / name)


@dataclass(frozen=True)
class Rounded:
    """A layer whose weight lies within its groups' ranges: scales, zero points [out, groups], group of each input."""

    name: str
    layer: torch.nn.Linear
    scales: torch.Tensor
    zeros: torch.Tensor
    groups: torch.Tensor


def with_act_order(module: Any) -> Iterator[Rounded]:
    """The quantised layers, with the inputs of a group anywhere, as act-order leaves them."""
    generator = torch.Generator().manual_seed(4)
    for name, layer in module.named_modules():
        if not isinstance(layer, torch.nn.Linear) or name == "lm_head":
            continue
        rows, columns = layer.weight.shape
        groups = (torch.arange(columns) // GROUP)[torch.randperm(columns, generator=generator)].int()
        order = groups.argsort(stable=True)
        grouped = layer.weight.detach().float()[:, order].view(rows, -1, GROUP)
        low, high = grouped.amin(-1).clamp_max(0), grouped.amax(-1).clamp_min(0)
        scales = ((high - low) / 15).half()
        zeros = (-low / scales.float()).round().clamp(1, 15)  # AutoGPTQ's files have no form for 0.
        least, most = ((bound - zeros) * scales.float() for bound in (0, 15))
        clipped = grouped.clamp(least.unsqueeze(-1), most.unsqueeze(-1)).flatten(1)
        layer.weight.data[:, order] = clipped.half()
        yield Rounded(name, layer, scales, zeros, groups)


def save(module: Any, packed: dict[str, dict[str, torch.Tensor]], config: dict[str, Any], target: Path) -> None:
    tensors = {key: tensor for key, tensor in module.state_dict().items() if key.removesuffix(".weight") not in packed}
    tensors |= {f"{name}.{part}": tensor for name, parts in packed.items() for part, tensor in parts.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target / "model.safetensors")
    fields = {**module.config.to_dict(), "quantization_config": config}
    (target / "config.json").write_text(json.dumps(fields, indent=2) + "\n")


def by_auto_gptq(target: Path, quant_linear: Any) -> None:
    module, packed = llama(), {}
    for each in with_act_order(module):
        made = quant_linear(4, GROUP, each.layer.in_features, each.layer.out_features, False)
        made.pack(each.layer, each.scales, each.zeros, each.groups)
        packed[each.name] = {part: getattr(made, part) for part in ("qweight", "qzeros", "scales", "g_idx")}
    config = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": GROUP,
        "desc_act": True,
        "sym": False,
        "checkpoint_format": "gptq",
        "modules_to_not_convert": ["lm_head"],
    }
    save(module, packed, config, target)


def by_compressed_tensors(target: Path) -> None:
    compressors: Any = importlib.import_module("compressed_tensors.compressors.quantized_compressors.pack_quantized")
    quantization: Any = importlib.import_module("compressed_tensors.quantization")
    forward: Any = importlib.import_module("compressed_tensors.quantization.lifecycle.forward")
    weights = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": GROUP}
    weights["actorder"] = "group"
    args = quantization.QuantizationArgs(**weights)
    module, packed, made = llama(), {}, {}
    for each in with_act_order(module):
        points = (each.zeros - 8).to(torch.int8)
        parts = compressors.PackedQuantizationCompressor().compress_weight(
            each.layer.weight.detach(), each.scales, args, points, each.groups
        )
        packed[each.name] = {**parts, "weight_scale": each.scales, "weight_g_idx": each.groups}
        shape = each.layer.weight.shape
        stored = compressors.unpack_from_int32(parts["weight_packed"], 4, shape)
        points = compressors.unpack_from_int32(parts["weight_zero_point"], 4, points.shape, packed_dim=0)
        made[f"{each.name}.weight"] = forward.dequantize(stored, each.scales, points, g_idx=each.groups).half()
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }
    save(module, packed, config, target)
    save_file(made, target / "values.safetensors")


def values(target: Path, quant_linear: Any, dequantize: Any) -> None:
    """What the packages make of the files."""
    stored = load_file(target / "model.safetensors")
    made = {}
    for name in sorted(key.removesuffix(".qweight") for key in stored if key.endswith(".qweight")):
        parts = {key.rpartition(".")[2]: stored[key] for key in stored if key.startswith(f"{name}.")}
        if target.name == "awq":
            weight = dequantize(parts["qweight"], parts["qzeros"], parts["scales"], 4, GROUP)
        else:
            columns, rows = parts["qweight"].shape[0] * 8, parts["qweight"].shape[1]
            layer = quant_linear(4, GROUP, columns, rows, False)
            for part, tensor in parts.items():
                setattr(layer, part, tensor)
            weight = layer(torch.eye(columns, dtype=torch.float16))
        made[f"{name}.weight"] = weight.t().half().contiguous()
    save_file(made, target / "values.safetensors")


def main() -> None:
    torch.manual_seed(0)
    for name in sys.argv[1:]:
        target = HERE / name
        target.mkdir(exist_ok=True)
        if name == "compressed-tensors-act-order":
            by_compressed_tensors(target)
            continue
        quant_linear = loaded_alone("auto_gptq", "nn_modules/qlinear/qlinear_cuda").QuantLinear
        if name == "gptq-act-order":
            by_auto_gptq(target, quant_linear)
        else:
            by_auto_round(f"auto_{name}", target)
        values(target, quant_linear, loaded_alone("awq", "utils/packing_utils").dequantize_gemm)


if __name__ == "__main__":
    main()
