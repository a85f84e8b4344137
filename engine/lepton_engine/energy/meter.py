"""What measures energy, and which of the machine's counters do for a device."""

import logging
from pathlib import Path
from typing import Protocol

from lepton_engine.energy.nvml import open_gpu
from lepton_engine.energy.rapl import POWERCAP, open_packages

logger = logging.getLogger(__name__)


class EnergyMeter(Protocol):
    """A counter of energy."""

    @property
    def source(self) -> str:
        """Which counter it is: `rapl` or `nvml`."""

    def joules(self) -> float:
        """Joules since the meter was opened.

        Raises:
            OSError: the counter cannot be read any more.
        """


def find_meter(gpu: str | None, powercap: Path = POWERCAP) -> EnergyMeter | None:
    """The counter of the device that computes; None where there is none that this process may read.

    Args:
        gpu: UUID of the GPU, as the driver writes it (`GPU-...`); None for the processor.
        powercap: root of the kernel's powercap tree.
    """
    try:
        meter: EnergyMeter | None = open_packages(powercap) if gpu is None else open_gpu(gpu)
    except OSError as error:
        logger.debug("energy is not measured: %s", error)
        return None
    return meter
