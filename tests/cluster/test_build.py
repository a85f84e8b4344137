"""The cache of built programs: two builders at once, builds that break, no toolchain."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import available, build


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(build, "_go", lambda: build.Go("go", "go1.26"))
    return tmp_path / "cache"


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def writes(calls: list[int]) -> Callable[[build.Go, Path], None]:
    def make(go: build.Go, into: Path) -> None:
        calls.append(1)
        (into / "program").write_text("built")

    return make


def test_two_at_once_build_once(cache: Path) -> None:
    calls: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def slow(go: build.Go, into: Path) -> None:
        entered.set()
        assert go_on.wait(30)
        writes(calls)(go, into)

    found: list[Path] = []
    first = threading.Thread(target=lambda: found.append(build.build_once("thing", "key", slow)))
    first.start()
    assert entered.wait(30)
    second = threading.Thread(target=lambda: found.append(build.build_once("thing", "key", writes(calls))))
    second.start()
    assert not (cache / "thing").exists()
    go_on.set()
    first.join()
    second.join()
    assert calls == [1]
    assert found[0] == found[1]
    assert (found[0] / "program").read_text() == "built"


def test_a_broken_build_leaves_nothing_and_may_be_tried_again(cache: Path) -> None:
    def breaks(go: build.Go, into: Path) -> None:
        (into / "half").write_text("")
        raise build.BuildError("the download broke off")

    with pytest.raises(build.BuildError, match="broke off"):
        build.build_once("thing", "key", breaks)
    assert folders(cache) == []
    calls: list[int] = []
    assert (build.build_once("thing", "key", writes(calls)) / "program").exists()


def test_what_a_killed_build_left_is_removed(cache: Path) -> None:
    (cache / ".building-left").mkdir(parents=True)
    found = build.build_once("thing", "key", writes([]))
    assert folders(cache) == [found.name]


def test_a_failing_compiler_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "go"
    compiler.write_text("#!/bin/sh\necho no space left on device >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(build, "_go", lambda: build.Go(str(compiler), "go1.26"))
    with pytest.raises(build.BuildError, match="no space left on device"):
        build.program("grpcurl")
    assert folders(cache) == []


def test_the_key_changes_with_every_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in build.MODULE.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(build, "MODULE", tmp_path)
    keys = {build._key()}
    for name in ("go.mod", "go.sum", "main.go"):
        with open(tmp_path / name, "a") as file:
            file.write("\n")
        keys.add(build._key())
    assert len(keys) == 4


@pytest.mark.parametrize(("version", "enough"), [("go1.26.8", True), ("go1.27", True), ("go1.19.2", False)])
def test_the_release_of_a_toolchain(version: str, enough: bool) -> None:
    assert (build._release(version) >= build.GO_AT_LEAST) is enough


def test_in_ci_a_skip_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "IN_CI", True)
    with pytest.raises(pytest.fail.Exception, match="CI=true allows no skipping: no Go"):
        available.unavailable("no Go")
    monkeypatch.setattr(available, "IN_CI", False)
    with pytest.raises(pytest.skip.Exception, match="no Go"):
        available.unavailable("no Go")


def test_no_registry_is_named_in_the_module() -> None:
    """Downloads go where Go itself is told to; nothing of it is written into the files."""
    for name in ("go.mod", "main.go"):
        text = (build.MODULE / name).read_text()
        assert "proxy.golang.org" not in text
        assert "sum.golang.org" not in text


def test_a_tests_limit_does_not_count_the_build(cache: Path) -> None:
    during: list[tuple[float, float]] = []

    def slow(go: build.Go, into: Path) -> None:
        during.append(signal.getitimer(signal.ITIMER_REAL))

    limit = signal.getitimer(signal.ITIMER_REAL)[0]
    build.build_once("thing", "key", slow)
    assert during == [(0.0, 0.0)]
    assert limit - 10 < signal.getitimer(signal.ITIMER_REAL)[0] <= limit
