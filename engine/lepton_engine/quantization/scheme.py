"""The schemes by which weights are quantised on load or ahead, and their names. Imports no torch."""

import re
from dataclasses import dataclass

from lepton_engine.errors import InvalidRequestError

GROUP_SIZES = (32, 64, 128)
DEFAULT_GROUP_SIZE = 64
NAMES = "int8, int8-w8a8, int4, int4-g32, int4-g64, int4-g128 (each with -asym or not), fp8, fp8-w8a8"
_INT4 = re.compile(r"int4(?:-g(?P<group>\d+))?(?P<asymmetric>-asym)?")


@dataclass(frozen=True)
class Scheme:
    """How the weights of the linear layers are quantised, always by rounding to the nearest.

    Attributes:
        weights: "int8" and "fp8" (e4m3), both per output channel and symmetric, or "int4", in groups.
        group_size: neighbouring inputs that share a scale; int4 alone.
        symmetric: whether the zero point is fixed in the middle; int4 alone may have one for each group.
        activations: what the inputs are quantised to per token while computing; None leaves them.
        head: whether the output layer is quantised too, to int8 per channel. The embedding never is.
    """

    weights: str
    group_size: int | None = None
    symmetric: bool = True
    activations: str | None = None
    head: bool = False

    @property
    def name(self) -> str:
        """As `parse_scheme` reads it."""
        base = self.weights
        if self.group_size is not None:
            base += f"-g{self.group_size}" + ("" if self.symmetric else "-asym")
        if self.activations is not None:
            base += "-w8a8"
        return base + ("+head" if self.head else "")

    @property
    def for_head(self) -> "Scheme":
        """The scheme of the output layer, where `head` asks for one."""
        return Scheme("int8", activations=self.activations if self.weights == "int8" else None)


def parse_scheme(text: str, field: str = "quantization") -> Scheme:
    """The scheme of a name: one of `NAMES`, with "+head" behind it to quantise the output layer to int8 as well.

    Raises:
        InvalidRequestError: it is none; the message has the field's name and what is allowed.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(field, f"{text!r} is not the name of a scheme: {NAMES}")
    base, plus, rest = text.strip().lower().partition("+")
    if plus and rest != "head":
        raise InvalidRequestError(field, f"{text!r} is not known; behind + only 'head' is allowed")
    head = bool(plus)
    if base in ("int8", "fp8"):
        return Scheme(base, head=head)
    if base in ("int8-w8a8", "fp8-w8a8"):
        return Scheme(base.partition("-")[0], activations=base.partition("-")[0], head=head)
    match = _INT4.fullmatch(base)
    if match is None:
        raise InvalidRequestError(field, f"{text!r} is not one of {NAMES}, or one of these with +head")
    group = int(match["group"] or DEFAULT_GROUP_SIZE)
    if group not in GROUP_SIZES:
        raise InvalidRequestError(
            field, f"{text!r}: groups of {group} are not one of {', '.join(map(str, GROUP_SIZES))}"
        )
    return Scheme("int4", group, symmetric=match["asymmetric"] is None, head=head)
