"""Rounding of plain weights: how far off it is, and what it refuses."""

import pytest
import torch

from lepton_engine.errors import InvalidRequestError
from lepton_engine.kernels import reference
from lepton_engine.kernels.quantized import QuantizedWeight, fuse
from lepton_engine.quantization.rounding import UnquantizableError, quantize_weight
from lepton_engine.quantization.scheme import Scheme, parse_scheme

NAMES = ["int8", "int4-g32", "int4-g64-asym", "int4-g128", "int4-g32-asym", "fp8"]


@pytest.fixture
def weight() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(12, 128, generator=generator) * torch.logspace(-4, 2, 12)[:, None] + 0.01
    made[3] = 0
    made[4, :64] = 0
    made[5] = made[5].abs() + 1  # all on one side of zero
    return made


def steps(weight: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """The distance of neighbouring values, as the scheme's definition has it, for each value."""
    size = scheme.group_size or weight.shape[1]
    grouped = weight.view(weight.shape[0], -1, size)
    largest = grouped.abs().amax(-1, keepdim=True).expand_as(grouped)
    if scheme.weights == "int8":
        step = largest / 127
    elif scheme.weights == "fp8":
        # Three bits of mantissa: an eighth of the power of two below, down to the least denormal.
        unit = (largest / 448).clamp_min(1e-30)
        scaled = (grouped.abs() / unit).clamp_min(1e-30)
        step = unit * torch.maximum(2.0 ** scaled.log2().floor() / 8, torch.tensor(2.0**-9))
    elif scheme.symmetric:
        step = largest / 7.5
    else:
        step = (grouped.amax(-1, keepdim=True).clamp_min(0) - grouped.amin(-1, keepdim=True).clamp_max(0)) / 15
        step = step.expand_as(grouped)
    return step.reshape(weight.shape)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_within_half_a_step(name: str, weight: torch.Tensor) -> None:
    scheme = parse_scheme(name)
    quantized = quantize_weight(weight, scheme)
    error = (quantized.dequantize(torch.float32) - weight).abs()
    # Symmetric int4 has no +8: its largest positive value is off by half a step, as 7.5 is between its neighbours; a
    # zero point is rounded, which may push the ends of a group out by half a step more.
    slack = 1.0 if scheme.weights == "int4" and not scheme.symmetric else 0.5
    assert (error <= slack * 1.001 * steps(weight, scheme) + 1e-12).all()
    assert torch.equal(quantized.dequantize(torch.float32)[3], torch.zeros(128))
    assert torch.equal(quantized.dequantize(torch.float32)[4, :64], torch.zeros(64))
    assert (quantized.scales > 0).all()


@pytest.mark.parametrize("name", ["int4-g32", "int4-g64-asym"])
def test_search_lessens_the_squared_error_of_every_group(name: str, weight: torch.Tensor) -> None:
    scheme = parse_scheme(name)
    errors = []
    for search in (False, True):
        read = quantize_weight(weight, scheme, search=search).dequantize(torch.float32)
        errors.append((read - weight).square().view(12, -1, scheme.group_size or 1).sum(-1))
    assert (errors[1] <= errors[0] * (1 + 1e-6)).all()
    better = (errors[1] < 0.95 * errors[0]).float().mean()
    assert better > 0.2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scales_can_be_stored_in_the_model_s_dtype(name: str, dtype: torch.dtype, weight: torch.Tensor) -> None:
    scheme = parse_scheme(name)
    quantized = quantize_weight(weight, scheme, scale_dtype=dtype)
    assert torch.equal(quantized.scales.to(dtype).float(), quantized.scales)
    exact = quantize_weight(weight, scheme)
    # Never less than exact scales, or the largest values would be cut off.
    assert (quantized.scales >= exact.scales).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_numbers_are_refused(name: str, value: float, weight: torch.Tensor) -> None:
    weight[7, 5] = value
    with pytest.raises(UnquantizableError, match="1 of its 1536 values are infinite or NaN"):
        quantize_weight(weight, parse_scheme(name))


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(UnquantizableError, match="96 inputs, which groups of 64 do not divide"):
        quantize_weight(torch.zeros(4, 96), parse_scheme("int4-g64"))


def test_parts_of_one_scheme_are_fused(weight: torch.Tensor) -> None:
    def part(name: str, rows: slice) -> QuantizedWeight:
        return quantize_weight(weight[rows], parse_scheme(name))

    for name in NAMES:
        fused = fuse([part(name, slice(0, 8)), part(name, slice(8, 12))])
        assert fused is not None
        whole = part(name, slice(0, 12))
        assert torch.equal(fused.dequantize(torch.float32), whole.dequantize(torch.float32))
    assert fuse([part("int4-g32", slice(0, 8)), part("int4-g64", slice(8, 12))]) is None
    assert fuse([part("int8", slice(0, 8)), part("fp8", slice(8, 12))]) is None
    mixed = fuse([part("int4-g32", slice(0, 8)), part("int4-g32-asym", slice(8, 12))])
    assert mixed is not None
    assert torch.equal(mixed.dequantize(torch.float32)[:8], part("int4-g32", slice(0, 8)).dequantize(torch.float32))


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_columns_of_a_quantised_weight(name: str, weight: torch.Tensor) -> None:
    quantized = quantize_weight(weight, parse_scheme(name))
    whole = quantized.dequantize(torch.float32)
    assert torch.equal(quantized.narrow(0, 4, 6).dequantize(torch.float32), whole[4:10])
    if quantized.group_size <= 64 or quantized.scheme != "int4":
        assert torch.equal(quantized.narrow(1, 64, 64).dequantize(torch.float32), whole[:, 64:])
    if quantized.scheme == "int4":
        with pytest.raises(ValueError, match="cannot be cut"):
            quantized.narrow(1, 16, 16)


@pytest.mark.parametrize("name", ["int8-w8a8", "fp8-w8a8"])
def test_quantised_inputs(name: str) -> None:
    weight = quantize_weight(torch.randn(24, 64), parse_scheme(name))
    x = torch.randn(5, 64) * torch.logspace(-3, 3, 5)[:, None]
    x[2] = 0
    bias = torch.randn(24)
    values, scales = reference.quantize_rows(x, weight.data.dtype)
    rows, columns = values.double() * scales, weight.dequantize(torch.float64).t()
    error = (reference.quantized_linear(x, weight, bias).double() - (rows @ columns + bias)).abs()
    assert (error <= 1e-6 * (rows.abs() @ columns.abs() + bias.abs())).all()  # Sums may cancel, their errors do not.
    limit = 0.5 / 127 if name == "int8-w8a8" else 2**-4
    assert ((values.float() * scales - x).abs() <= 1.001 * limit * x.abs().amax(1, keepdim=True)).all()
    x[1, 1] = float("nan")
    found = reference.quantized_linear(x, weight, None)
    assert found[1].isnan().all()
    assert torch.isfinite(found[[0, 2, 3, 4]]).all()


@pytest.mark.parametrize(
    "name",
    [
        "int8",
        "int8-w8a8",
        "int4-g32",
        "int4-g64",
        "int4-g128-asym",
        "fp8",
        "fp8-w8a8",
        "int8+head",
        "int4-g32-asym+head",
    ],
)
def test_names(name: str) -> None:
    assert parse_scheme(name).name == name
    assert parse_scheme(name.upper()) == parse_scheme(name)
    assert parse_scheme("int4").name == "int4-g64"
    assert parse_scheme("int4-asym+head").name == "int4-g64-asym+head"


@pytest.mark.parametrize(
    "name", ["", "int", "int4-g16", "int4-g", "int8-g32", "fp8-asym", "int8+", "int8+heads", "w8a8"]
)
def test_unknown_schemes_are_refused_by_the_field_s_name(name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_scheme(name, "scheme")
    assert caught.value.field == "scheme"
    assert repr(name) in str(caught.value)
