"""The configuration of compressed-tensors: which modules are quantised, and how."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lepton_engine.errors import ModelLoadError, UnsupportedModelError
from lepton_engine.quantization.names import matches
from lepton_engine.weights.fields import Fields

FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision")
STRATEGIES = ("tensor", "channel", "group", "block")
PREFIX = "quantization_config."


@dataclass(frozen=True)
class CompressedGroup:
    """How the weights of some modules are stored.

    Attributes:
        targets: names, "re:" and an expression, or classes, of which "Linear" is the only one known here.
        kind: "int" or "float". strategy: what a scale belongs to, one of STRATEGIES.
        group_size: neighbouring inputs with one scale, for the strategy "group". block: rows and columns with one, for
            "block".
        activations: "int8" or "fp8" where the inputs are quantised as well and kernels do the same; None otherwise.
        packed: whether integers are packed into words.
    """

    targets: tuple[str, ...]
    bits: int
    kind: str
    symmetric: bool
    strategy: str
    group_size: int | None
    block: tuple[int, int] | None
    act_order: bool
    activations: str | None
    packed: bool


@dataclass(frozen=True)
class CompressedConfig:
    """All groups, and the modules that none of them means."""

    groups: tuple[CompressedGroup, ...]
    ignored: tuple[str, ...]

    def group_of(self, module: str) -> CompressedGroup | None:
        """The group of a linear layer, the most exact target first; None where it is plain."""
        try:
            if any(name == "Linear" or matches(module, name) for name in self.ignored):
                return None
            named = [(target, group) for group in self.groups for target in group.targets]
            exact = [group for target, group in named if target == module]
            by_expression = [group for target, group in named if target.startswith("re:") and matches(module, target)]
            by_class = [group for target, group in named if target == "Linear"]
        except re.error as error:
            raise ModelLoadError(f"config.json: {PREFIX[:-1]}: {error.pattern!r} is no expression: {error}") from error
        return next(iter(exact + by_expression + by_class), None)


def parse_compressed(config: Mapping[str, Any]) -> CompressedConfig:
    """From config.json's `quantization_config`.

    Raises:
        UnsupportedModelError: something that changes the arithmetic and is not built here.
        ModelLoadError: a field is missing or of the wrong type.
    """
    fields = Fields(config, PREFIX)
    groups = fields.mapping("config_groups")
    if not groups:
        raise ModelLoadError(f"config.json: {PREFIX}config_groups is missing")
    if config.get("transform_config"):
        raise UnsupportedModelError(f"config.json: {PREFIX}transform_config is not supported")
    sparsity = (fields.mapping("sparsity_config") or {}).get("format") or "dense"
    if sparsity != "dense":
        raise UnsupportedModelError(f"config.json: {PREFIX}sparsity_config.format is {sparsity!r}, 'dense' is needed")
    layout = fields.text("format", "naive-quantized")
    ignored = config.get("ignore") or []
    if not isinstance(ignored, list) or not all(isinstance(name, str) for name in ignored):
        raise ModelLoadError(f"config.json: {PREFIX}ignore is {ignored!r}, a list of names is needed")
    parsed = (_parse_group(f"{PREFIX}config_groups.{name}.", group, layout) for name, group in groups.items())
    return CompressedConfig(tuple(parsed), tuple(ignored))


def _parse_group(prefix: str, group: Any, layout: str) -> CompressedGroup:
    if not isinstance(group, dict):
        raise ModelLoadError(f"config.json: {prefix[:-1]} is {group!r}, a mapping is needed")
    fields = Fields(group, prefix)
    layout = fields.text("format", layout)
    if layout not in FORMATS:
        raise UnsupportedModelError(f"config.json: {prefix}format is {layout!r}, one of {', '.join(FORMATS)} is needed")
    targets = group.get("targets")
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) for name in targets):
        raise ModelLoadError(f"config.json: {prefix}targets is {targets!r}, a list of names is needed")
    if group.get("output_activations"):
        raise UnsupportedModelError(f"config.json: {prefix}output_activations is not supported")
    weights = fields.mapping("weights")
    if weights is None:
        raise ModelLoadError(f"config.json: {prefix}weights is missing")
    own = Fields(weights, f"{prefix}weights.")
    bits, kind = own.integer("num_bits", 8), own.text("type", "int")
    if (bits, kind) not in ((4, "int"), (8, "int"), (8, "float")):
        raise UnsupportedModelError(
            f"config.json: {prefix}weights.num_bits is {bits} of {kind!r}; 4 and 8 of 'int', 8 of 'float' are read"
        )
    size = own.integer("group_size", -1, low=-1)
    strategy = own.text("strategy", "group" if size > 0 else "channel" if "group_size" in own else "tensor")
    if strategy not in STRATEGIES:
        raise UnsupportedModelError(
            f"config.json: {prefix}weights.strategy is {strategy!r}, one of {', '.join(STRATEGIES)} is needed"
        )
    if strategy == "group" and size < 1:
        raise ModelLoadError(f"config.json: {prefix}weights.group_size is {size}, an integer of at least 1 is needed")
    return CompressedGroup(
        tuple(targets),
        bits,
        kind,
        own.boolean("symmetric", True),
        strategy,
        size if strategy == "group" else None,
        _block(weights.get("block_structure"), prefix) if strategy == "block" else None,
        weights.get("actorder") in ("group", "dynamic", True),
        _activations(fields.mapping("input_activations"), bits, kind),
        layout == "pack-quantized",
    )


def _block(value: Any, prefix: str) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value)
    ):
        raise ModelLoadError(f"config.json: {prefix}weights.block_structure is {value!r}, two sizes are needed")
    return value[0], value[1]


def _activations(inputs: Mapping[str, Any] | None, bits: int, kind: str) -> str | None:
    """Inputs of the weight's own kind are quantised per token, whether or not the checkpoint has fixed scales for them.

    Others are left as they are, which is nearer to the model before it was quantised.
    """
    if not inputs or bits != 8:
        return None
    if inputs.get("num_bits", 8) != 8 or inputs.get("type", "int") != kind or not inputs.get("symmetric", True):
        return None
    return "int8" if kind == "int" else "fp8"
