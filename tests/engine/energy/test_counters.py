"""Counters of energy: a powercap tree of files, a GPU's library that is a fake."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lepton_engine.energy.meter import find_meter
from lepton_engine.energy.nvml import open_gpu
from lepton_engine.energy.rapl import open_packages


def zone(root: Path, folder: str, name: str, microjoules: int, limit: int = 1000) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    return path / "energy_uj"


def test_packages_and_memory_count_cores_and_platform_do_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    cores = zone(tmp_path, "intel-rapl:0:0", "core", 100)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 100)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 100)
    platform = zone(tmp_path, "intel-rapl:2", "psys", 100)
    meter = open_packages(tmp_path)
    assert meter.joules() == 0
    for path, value in ((first, 110), (cores, 900), (memory, 103), (second, 120), (platform, 900)):
        path.write_text(str(value))
    assert meter.joules() == pytest.approx(33e-6)


def test_a_counter_that_begins_again_loses_nothing(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 900, limit=1000)
    meter = open_packages(tmp_path)
    path.write_text("50")
    assert meter.joules() == pytest.approx(150e-6)
    path.write_text("60")
    assert meter.joules() == pytest.approx(160e-6)


@pytest.mark.parametrize("text", ["", "many"])
def test_a_counter_that_holds_no_number_is_absent(tmp_path: Path, text: str) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text(text)
    with pytest.raises(OSError, match=r"energy_uj holds .*, no number"):
        open_packages(tmp_path)
    assert find_meter(None, tmp_path) is None


def test_a_machine_without_counters_has_no_meter(tmp_path: Path) -> None:
    assert find_meter(None, tmp_path) is None
    assert find_meter(None, tmp_path / "missing") is None


def test_the_processors_meter_says_what_it_is(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = find_meter(None, tmp_path)
    assert meter is not None
    assert meter.source == "rapl"


class FakeError(Exception):
    pass


class FakeLibrary(SimpleNamespace):
    """The part of `pynvml` that is called, over one GPU."""

    NVMLError = FakeError

    def __init__(self) -> None:
        super().__init__(millijoules=5000, broken=False)

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-1":
            raise FakeError("Not Found")
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert handle == "handle"
        if self.broken:
            raise FakeError("Not Supported")
        return int(self.millijoules)


def test_a_gpus_counter_counts_from_when_it_was_opened() -> None:
    library = FakeLibrary()
    meter = open_gpu("GPU-1", library)
    library.millijoules = 7500
    assert meter.joules() == 2.5
    assert meter.source == "nvml"


@pytest.mark.parametrize(("uuid", "broken"), [("GPU-2", False), ("GPU-1", True)])
def test_a_gpu_without_a_counter_is_an_error(uuid: str, broken: bool) -> None:
    library: Any = FakeLibrary()
    library.broken = broken
    with pytest.raises(OSError, match="NVML: Not"):
        open_gpu(uuid, library)


def test_a_machine_without_the_library_has_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert find_meter("GPU-1") is None
