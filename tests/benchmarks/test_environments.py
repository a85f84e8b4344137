from pathlib import Path

import pytest

from benchmarks.systems import environments
from benchmarks.systems.environments import Peer, once


def test_made_once_and_never_half(tmp_path: Path) -> None:
    folder = tmp_path / "made"

    def half() -> None:
        with once(folder) as making:
            assert making is not None
            making.mkdir()
            (making / "part").touch()
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half"):
        half()
    assert not folder.exists()
    with once(folder) as making:
        assert making is not None
        assert not making.exists()
        making.mkdir()
        (making / "all").touch()
    assert [path.name for path in folder.iterdir()] == ["all"]
    with once(folder) as making:
        assert making is None


def test_other_requirements_are_another_environment() -> None:
    one, other = (Peer("p", "p", (f"p>={n}",), {}) for n in (1, 2))
    assert one.folder() != other.folder()
    assert one.folder() == Peer("p", "p", ("p>=1",), {}).folder()


def test_what_was_compiled_for_another_processor_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    built, plain = Peer("p", "p", (), {}, {"CMAKE_ARGS": "-DX=1"}), Peer("p", "p", (), {})
    here = built.folder(), plain.folder()
    monkeypatch.setattr(environments, "_processor", lambda: "flags : of another")
    there = built.folder(), plain.folder()
    assert there[0] != here[0]
    assert there[1] == here[1]
