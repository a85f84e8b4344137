"""A cluster of nodes leaves the machine as it was, also when its run is killed, and the next one starts at once.

Before the tests of the shared cluster: a machine has one at a time.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.api import eventually
from tests.cluster.nodes import host, image, machine, packages
from tests.cluster.nodes.cluster import NodeCluster
from tests.cluster.nodes.packages import NodesError

SCRIPT = """
from tests.cluster.nodes.cluster import NodeCluster
cluster = NodeCluster()
cluster.start()
print(cluster.plane.folder, *(node.pid for node in cluster.nodes.values()), flush=True)
input()
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    packages.install()


@pytest.fixture
def before() -> machine.State:
    """The machine, once whatever ran before has been cleaned up."""
    host.Host().close()
    found = machine.state()
    assert found["processes"] == []
    assert found["cgroups"] == []
    return found


def killed_run() -> tuple[Path, set[int]]:
    """Of a run that was killed while it had a cluster: its control plane's folder, and all of its processes."""
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert run.stdout is not None
    folder, *nodes = run.stdout.readline().split()
    pids = {child.pid for child in psutil.Process(run.pid).children(recursive=True)} | host.processes()
    assert {int(pid) for pid in nodes} < pids
    found = machine.state()
    assert all(found[kind] for kind in ("processes", "cgroups", "folders"))
    assert sorted(host.links()) == ["lepton0", "lepton1", "lepton2"]
    run.send_signal(signal.SIGKILL)
    run.wait()
    return Path(folder), pids


def gone(folder: Path, pids: set[int]) -> bool:
    return not folder.exists() and not any(psutil.pid_exists(pid) for pid in pids)


def test_a_killed_run_leaves_nothing(before: machine.State) -> None:
    folder, pids = killed_run()
    eventually(lambda: machine.state() == before, "the machine is as it was", 30)
    eventually(lambda: gone(folder, pids), "its processes are gone, and its control plane's folder")


def test_after_a_killed_run_the_next_starts_at_once(before: machine.State) -> None:
    folder, pids = killed_run()
    with NodeCluster() as cluster:  # It waits for the cleaning up.
        assert all(cluster.ready(name) for name in cluster.nodes)
    assert gone(folder, pids)
    assert machine.state() == before


def test_what_a_killed_janitor_leaves_the_next_run_removes(before: machine.State) -> None:
    """Links, cgroups with a process in them, and a folder, but nobody who would remove them."""
    host.run("ip", "link", "add", host.BRIDGE, "type", "bridge")
    host.run("ip", "link", "add", "lepton7", "type", "veth", "peer", "name", "lepton8")
    host.FOLDER.mkdir()
    (host.FOLDER / "file").write_text("left")
    left = subprocess.Popen(["tail", "-f", "/dev/null"])
    for cgroup in host.make_cgroup("node-a", "programs"):
        (cgroup / "cgroup.procs").write_text(str(left.pid))
    assert host.processes() == {left.pid}
    held = host.Host()
    assert left.wait() == -signal.SIGKILL
    assert host.links() == [host.BRIDGE]
    assert not (host.FOLDER / "file").exists()
    held.close()
    assert machine.state() == before


def test_links_of_others_stay(before: machine.State) -> None:
    host.run("ip", "link", "add", "lepton-x", "type", "bridge")
    try:
        host.Host().close()
        assert "lepton-x" in machine.state()["links"]
    finally:
        host.run("ip", "link", "delete", "lepton-x")


def test_a_machine_has_one_at_a_time(before: machine.State) -> None:
    held = host.Host()
    try:
        with pytest.raises(host.HostError, match=r"another run has had this machine's nodes for 0\.1 s"):
            host.Host(seconds=0.1)
    finally:
        held.close()


def test_a_start_that_fails_leaves_nothing(before: machine.State, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(program: Path, archive: Path, user: str = "") -> Path:
        archive.write_text("no archive")
        return archive

    monkeypatch.setattr(image, "write", fails)
    with pytest.raises(NodesError, match="does not import"):
        NodeCluster().start()
    assert machine.state() == before


def test_without_root_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NodesError, match="need root"):
        NodeCluster().start()


def test_installing_starts_no_service() -> None:
    assert machine.services() == ""
