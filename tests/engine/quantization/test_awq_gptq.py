"""AWQ and GPTQ modules packed here value by value, as the formats are defined, and read back."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lepton_engine.errors import ModelLoadError
from lepton_engine.kernels import reference
from lepton_engine.kernels.quantized import QuantizedWeight
from lepton_engine.quantization.awq import AWQReader
from lepton_engine.quantization.gptq import GPTQReader
from lepton_engine.weights.checkpoint import Checkpoint

Tensors = dict[str, torch.Tensor]
OUT, IN = 24, 64
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
ModuleOf = Callable[..., Any]


def signed(word: int) -> int:
    return (word & 0xFFFFFFFF) - (1 << 32 if word & 0x80000000 else 0)


def packed(rows: list[list[int]], bits: int, order: list[int]) -> torch.Tensor:
    """Each row's values, a word for each len(order) of them, value order[i] in its i-th field from below."""
    words = [
        [signed(sum(row[at + k] << (bits * i) for i, k in enumerate(order))) for at in range(0, len(row), len(order))]
        for row in rows
    ]
    return torch.tensor(words, dtype=torch.int32)


@pytest.fixture
def drawn() -> Tensors:
    """Stored values [out, in], zero points and scales [out, groups of 16]."""
    generator = torch.Generator().manual_seed(5)
    zeros = torch.randint(0, 16, (OUT, 4), generator=generator)
    zeros[3] = 0
    return {
        "values": torch.randint(0, 16, (OUT, IN), generator=generator),
        "zeros": zeros,
        "scales": torch.rand(OUT, 4, generator=generator).half() / 8 + 0.01,
    }


def expected(drawn: Tensors, groups: torch.Tensor) -> torch.Tensor:
    """Of each value by its own group, one after the other."""
    rows = [
        [float(drawn["scales"][o, g]) * int(drawn["values"][o, i] - drawn["zeros"][o, g]) for i, g in enumerate(groups)]
        for o in range(OUT)
    ]
    return torch.tensor(rows)


def awq_tensors(drawn: Tensors) -> Tensors:
    return {
        "m.qweight": packed(drawn["values"].t().tolist(), 4, AWQ_ORDER),
        "m.qzeros": packed(drawn["zeros"].t().tolist(), 4, AWQ_ORDER),
        "m.scales": drawn["scales"].t().contiguous(),
    }


def gptq_tensors(drawn: Tensors, groups: torch.Tensor, version: int) -> Tensors:
    """Version 1 as GPTQModel makes it: one is taken from every field by one subtraction from the word."""
    zeros = packed(drawn["zeros"].t().tolist(), 4, list(range(8)))
    if version == 1:
        zeros = torch.tensor([[signed(word - 0x11111111) for word in row] for row in zeros.tolist()], dtype=torch.int32)
    return {
        "m.qweight": packed(drawn["values"].tolist(), 4, list(range(8))).t().contiguous(),
        "m.qzeros": zeros,
        "m.scales": drawn["scales"].t().contiguous(),
        "m.g_idx": groups.to(torch.int32),
    }


def checkpoint(tensors: Tensors) -> Checkpoint:
    return Checkpoint("here", {}, {}, tensors)


NEIGHBOURS = torch.arange(IN) // 16
SHUFFLED = NEIGHBOURS[torch.randperm(IN, generator=torch.Generator().manual_seed(1))]


def read_awq(tensors: Tensors, module_of: ModuleOf, **config: Any) -> Any:
    reader = AWQReader.open({"quant_method": "awq", "bits": 4, "group_size": 16, **config}, set(tensors))
    assert reader.reads("m")
    return reader.read(module_of(checkpoint(tensors), "m", (OUT, IN)))


def read_gptq(tensors: Tensors, module_of: ModuleOf, **config: Any) -> Any:
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": True, **config}
    reader = GPTQReader.open(settings, set(tensors))
    assert reader.reads("m")
    return reader.read(module_of(checkpoint(tensors), "m", (OUT, IN)))


def test_awq(drawn: Tensors, module_of: ModuleOf) -> None:
    weight = read_awq(awq_tensors(drawn), module_of, version="gemm", zero_point=True)
    assert isinstance(weight, QuantizedWeight)
    assert (weight.scheme, weight.group_size, weight.permutation) == ("int4", 16, None)
    torch.testing.assert_close(weight.dequantize(torch.float32), expected(drawn, NEIGHBOURS))


def test_awq_without_zero_points(drawn: Tensors, module_of: ModuleOf) -> None:
    weight = read_awq(awq_tensors(drawn), module_of, zero_point=False)
    assert weight.zeros is None
    torch.testing.assert_close(
        weight.dequantize(torch.float32), expected({**drawn, "zeros": torch.full((OUT, 4), 8)}, NEIGHBOURS)
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shuffled", [False, True])
def test_gptq(drawn: Tensors, module_of: ModuleOf, version: int, shuffled: bool) -> None:
    groups = SHUFFLED if shuffled else NEIGHBOURS
    form = {"checkpoint_format": "gptq_v2"} if version == 2 else {}
    weight = read_gptq(gptq_tensors(drawn, groups, version), module_of, **form)
    assert (weight.permutation is not None) == shuffled
    plain = expected(drawn, groups)
    torch.testing.assert_close(weight.dequantize(torch.float32), plain)
    x = torch.randn(3, IN)
    torch.testing.assert_close(reference.quantized_linear(x, weight, None), x @ plain.t())
    if weight.permutation is not None:
        # What a kernel does: x's columns in the order of the stored ones.
        inner = QuantizedWeight("int4", weight.data, weight.scales, weight.zeros)
        torch.testing.assert_close(x[:, weight.permutation] @ inner.dequantize(torch.float32).t(), x @ plain.t())


def test_gptq_symmetric_needs_no_zero_points(drawn: Tensors, module_of: ModuleOf) -> None:
    drawn["zeros"][:] = 8
    assert read_gptq(gptq_tensors(drawn, NEIGHBOURS, 1), module_of).zeros is None


def test_gptq_without_act_order_needs_no_group_index(drawn: Tensors, module_of: ModuleOf) -> None:
    tensors = gptq_tensors(drawn, NEIGHBOURS, 1)
    del tensors["m.g_idx"]
    weight = read_gptq(tensors, module_of, desc_act=False)
    torch.testing.assert_close(weight.dequantize(torch.float32), expected(drawn, NEIGHBOURS))


def test_gptq_of_8_bits(module_of: ModuleOf) -> None:
    values = torch.randint(0, 256, (OUT, IN))
    scales = torch.rand(1, OUT).half() + 0.1
    tensors = {
        "m.qweight": packed(values.tolist(), 8, [0, 1, 2, 3]).t().contiguous(),
        "m.qzeros": torch.full((1, OUT // 4), 0x7F7F7F7F, dtype=torch.int32),
        "m.scales": scales,
        "m.g_idx": torch.zeros(IN, dtype=torch.int32),
    }
    weight = read_gptq(tensors, module_of, bits=8, group_size=-1)
    assert weight.scheme == "int8"
    torch.testing.assert_close(weight.dequantize(torch.float32), (values - 128) * scales.t().float())


def test_what_is_stored_plain_stays_plain(drawn: Tensors) -> None:
    tensors = {**awq_tensors(drawn), "lm_head.weight": torch.zeros(2, 2), "m.self_attn.weight": torch.zeros(2, 2)}
    config = {"quant_method": "awq", "modules_to_not_convert": ["self_attn"]}
    reader: AWQReader | GPTQReader
    for reader in (AWQReader.open(config, set(tensors)), GPTQReader.open({**config, "bits": 4}, set(tensors))):
        assert reader.reads("m")
        assert not reader.reads("lm_head")
        assert not reader.reads("m.self_attn")
        assert not reader.reads("other.self_attn.q")  # neither form is stored: excepted by name
        assert reader.reads("other.mlp")  # neither form is stored, and nothing excepts it: its tensors are missing


def test_gptq_bias_of_a_layer_without_one(drawn: Tensors, module_of: ModuleOf) -> None:
    tensors = {**gptq_tensors(drawn, NEIGHBOURS, 1), "m.bias": torch.zeros(OUT)}
    read_gptq(tensors, module_of)
    tensors["m.bias"][1] = 1
    with pytest.raises(ModelLoadError, match=r"m\.bias is not zero"):
        read_gptq(tensors, module_of)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("m.scales"), r"m\.scales is missing"),
        (lambda t: t.pop("m.qzeros"), r"m\.qzeros is missing"),
        (lambda t: t.pop("m.qweight"), r"m\.qweight is missing"),
        (lambda t: t.update({"m.scales": t["m.scales"][:3]}), r"m\.scales has shape \[3, 24\], \[4, 24\] is needed"),
        (lambda t: t.update({"m.qzeros": t["m.qzeros"][:, :2]}), r"m\.qzeros has shape \[4, 2\], \[4, 3\] is needed"),
        (lambda t: t.update({"m.qweight": t["m.qweight"].long()}), r"m\.qweight is of torch.int64, int32 is needed"),
        (lambda t: t["m.scales"].fill_(float("nan")), r"m\.scales has scales that are infinite or NaN"),
        (lambda t: t["m.scales"].fill_(float("inf")), r"m\.scales has scales that are infinite or NaN"),
        (lambda t: t["m.scales"].zero_(), r"m\.scales has \d+ scales of zero over values that are not zero"),
    ],
)
@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_damaged_tensors(
    method: str, change: Callable[[Tensors], object], message: str, drawn: Tensors, module_of: ModuleOf
) -> None:
    tensors = awq_tensors(drawn) if method == "awq" else gptq_tensors(drawn, NEIGHBOURS, 1)
    change(tensors)
    with pytest.raises(ModelLoadError, match=message):
        (read_awq if method == "awq" else read_gptq)(tensors, module_of)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (torch.zeros(IN), r"group index of m is wrong: it does not put 16 inputs into each of 4 groups"),
        (NEIGHBOURS + 1, r"group index of m is wrong"),
        (NEIGHBOURS[:-1], r"m\.g_idx has shape \[63\]"),
    ],
)
def test_damaged_group_index(groups: torch.Tensor, message: str, drawn: Tensors, module_of: ModuleOf) -> None:
    with pytest.raises(ModelLoadError, match=message):
        read_gptq(gptq_tensors(drawn, groups, 1), module_of)


def test_group_size_that_does_not_divide(drawn: Tensors, module_of: ModuleOf) -> None:
    with pytest.raises(ModelLoadError, match="group_size is 48, which does not divide the 64 inputs of m"):
        read_awq(awq_tensors(drawn), module_of, group_size=48)
    with pytest.raises(ModelLoadError, match="group_size is 48, which does not divide the 64 inputs of m"):
        read_gptq(gptq_tensors(drawn, NEIGHBOURS, 1), module_of, group_size=48)


@pytest.mark.parametrize(
    ("open_reader", "config", "message"),
    [
        (AWQReader.open, {"bits": 3}, "quantization_config.bits is 3, 4 is needed"),
        (AWQReader.open, {"bits": 4, "version": "gemv"}, "version is 'gemv', 'gemm' is needed"),
        (AWQReader.open, {"bits": "4"}, "quantization_config.bits is '4', an integer of at least 1 is needed"),
        (GPTQReader.open, {"bits": 3}, "quantization_config.bits is 3, 4 or 8 is needed"),
        (GPTQReader.open, {}, "quantization_config.bits is missing"),
        (GPTQReader.open, {"bits": 4, "checkpoint_format": "marlin"}, "checkpoint_format is 'marlin', one of gptq"),
        (GPTQReader.open, {"bits": 4, "is_marlin_format": True}, "checkpoint_format is 'marlin'"),
        (GPTQReader.open, {"bits": 4, "dynamic": {r"+:.*down": {"bits": 8}}}, "dynamic gives modules other bits"),
    ],
)
def test_configurations_that_are_not_read(
    open_reader: Callable[..., object], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        open_reader(config, set())
