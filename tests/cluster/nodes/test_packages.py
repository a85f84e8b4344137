"""What is installed on the machine, and how; nothing is, here."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import packages
from tests.cluster.nodes.packages import NodesError


class Apt:
    """Answers in the place of apt-get, and remembers what it was asked and whether services could start."""

    def __init__(self, returncode: int = 0, installs: list[str] | None = None) -> None:
        self.asked: list[list[str]] = []
        self.policies: list[str] = []
        self._returncode = returncode
        self._missing = installs

    def __call__(self, command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        self.asked.append(command)
        self.policies.append(packages.POLICY.read_text() if packages.POLICY.exists() else "")
        if command[1] == "install" and self._missing is not None:
            self._missing.clear()
        return subprocess.CompletedProcess(command, self._returncode, "", "E: Unable to locate package")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The packages that this machine seems to lack; the test is root, and nobody has a policy of services."""
    found = ["containerd", "runc"]
    monkeypatch.setattr(packages, "missing", lambda: list(found))
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name, path=None: name)
    return found


def test_packages_are_named_then_installed_and_no_service_starts(
    missing: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    apt = Apt(installs=missing)
    monkeypatch.setattr(subprocess, "run", apt)
    packages.install()
    assert "installing Debian packages for the nodes: containerd runc" in capfd.readouterr().err
    assert [command[:2] for command in apt.asked] == [["apt-get", "update"], ["apt-get", "install"]]
    assert apt.asked[1][-2:] == ["containerd", "runc"]
    assert all("exit 101" in policy for policy in apt.policies)
    assert not packages.POLICY.exists()


def test_somebody_elses_policy_stays(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    packages.POLICY.write_text("theirs")
    monkeypatch.setattr(subprocess, "run", Apt(installs=missing))
    packages.install()
    assert packages.POLICY.read_text() == "theirs"


def test_a_failing_install_says_why(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Apt(returncode=100))
    with pytest.raises(NodesError, match="Unable to locate package"):
        packages.install()
    assert not packages.POLICY.exists()


def test_an_install_that_brings_no_program_is_told(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Apt())
    with pytest.raises(NodesError, match="still no program of containerd, runc"):
        packages.install()


def test_a_machine_without_apt_is_told_what_it_lacks(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(NodesError, match="lacks containerd, runc, and has no apt-get"):
        packages.install()


def test_nothing_is_done_where_nothing_is_missing(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    missing.clear()
    apt = Apt()
    monkeypatch.setattr(subprocess, "run", apt)
    packages.install()
    assert apt.asked == []


def test_without_root_it_fails(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NodesError, match="need root"):
        packages.install()
