"""How much the end-to-end scenarios do: `make e2e`, or `make e2e-full` with all that the figures ask for."""

import os
from dataclasses import dataclass

VARIABLE = "LEPTON_E2E"


@dataclass(frozen=True)
class Size:
    """Amounts.

    Attributes:
        streams: open at the same time. clients: processes that keep them open. seconds: least and most of a stream.
        rollouts, scale_downs: how often.
    """

    name: str
    streams: int
    clients: int
    rollouts: int
    scale_downs: int
    seconds: tuple[float, float] = (20.0, 32.0)


SIZES = {
    "quick": Size("quick", streams=50, clients=1, rollouts=3, scale_downs=3),
    "full": Size("full", streams=200, clients=2, rollouts=20, scale_downs=20),
}


def asked() -> str | None:
    """The size that the environment asks for; None where no end-to-end test shall run."""
    return os.environ.get(VARIABLE) or None


def size() -> Size:
    """The amounts. Raises ValueError for a size that there is not."""
    name = asked() or "quick"
    if name not in SIZES:
        raise ValueError(f"{VARIABLE}={name}: there are {' and '.join(SIZES)}")
    return SIZES[name]
