"""The processor's energy counters (RAPL), as Linux shows them under /sys/class/powercap.

Source: https://docs.kernel.org/power/powercap/powercap.html. `energy_uj` counts microjoules and begins again at 0 after
`max_energy_range_uj`; since Linux 5.10 only root may read it, unless the machine's owner allows more.
"""

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass
class Zone:
    """One counter. `range` is the microjoules after which it begins again."""

    path: Path
    range: int
    last: int
    total: int = 0

    @classmethod
    def open(cls, folder: Path) -> "Zone":
        """The counter of a zone. Raises OSError when it cannot be read."""
        path = folder / "energy_uj"
        return cls(path, _number(folder / "max_energy_range_uj"), _number(path))

    def microjoules(self) -> int:
        """Since it was opened, as long as it is asked more often than it wraps around (minutes at full power)."""
        now = _number(self.path)
        step = now - self.last
        self.total += step if step >= 0 else step + self.range
        self.last = now
        return self.total


class PackageMeter:
    """All processor packages of the machine and their memory, with whatever else runs on them."""

    source = "rapl"

    def __init__(self, zones: list[Zone]) -> None:
        self._zones = zones

    def joules(self) -> float:
        """See `EnergyMeter.joules`."""
        return sum(zone.microjoules() for zone in self._zones) / 1e6


def open_packages(powercap: Path = POWERCAP) -> PackageMeter:
    """The counters of all packages, and of their memory where it has its own.

    A package's counter contains its cores and graphics; `psys`, the whole platform, contains the packages.

    Raises:
        OSError: there are none, or they may not be read.
    """
    found = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        name = (folder / "name").read_text().strip()
        if name.startswith("package") or (name == "dram" and folder.name.count(":") == 2):
            found.append(Zone.open(folder))
    if not found:
        raise FileNotFoundError(f"no package under {powercap}")
    return PackageMeter(found)


def _number(path: Path) -> int:
    text = path.read_text().strip()
    try:
        return int(text)
    except ValueError:
        raise OSError(f"{path} holds {text[:40]!r}, no number") from None
