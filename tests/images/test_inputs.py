"""What makes a build's key, and what does not."""

from pathlib import Path

import pytest

from images.inputs import context_files, key, stage
from images.variants import ROOT, VARIANTS

OPERATOR, CPU, CUDA = VARIANTS["operator"], VARIANTS["server-cpu"], VARIANTS["server"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small copy of what the operator's image is made of."""
    copy = tmp_path / "tree"
    stage(ROOT, OPERATOR, copy)
    return copy


def test_what_is_copied_makes_the_key(tree: Path) -> None:
    before = key(tree, OPERATOR, "base")
    file = tree / "operator" / "lepton_operator" / "plan.py"
    file.write_text(file.read_text() + "\n")
    assert key(tree, OPERATOR, "base") != before


def test_constraints_and_the_base_make_the_key(tree: Path) -> None:
    before = key(tree, OPERATOR, "base")
    assert key(tree, OPERATOR, "another") != before
    with (tree / "constraints.txt").open("a") as file:
        file.write("zzz==1\n")
    assert key(tree, OPERATOR, "base") != before


def test_a_new_file_makes_another_key_and_left_overs_do_not(tree: Path) -> None:
    before = key(tree, OPERATOR, "base")
    package = tree / "service" / "lepton_service"
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "cli.cpython-311.pyc").write_bytes(b"x")
    (package / "kernels.so").write_bytes(b"x")
    assert key(tree, OPERATOR, "base") == before
    (package / "new.py").write_text("")
    assert key(tree, OPERATOR, "base") != before


def test_times_and_umasks_make_no_difference(tree: Path, tmp_path: Path) -> None:
    before = key(tree, OPERATOR, "base")
    for path in tree.rglob("*.py"):
        path.chmod(0o600)
    assert key(tree, OPERATOR, "base") == before
    again = tmp_path / "again"
    stage(tree, OPERATOR, again)
    assert (again / "service" / "lepton_service" / "cli.py").stat().st_mode & 0o777 == 0o644
    assert (again / "images" / "inside" / "pip").stat().st_mode & 0o777 == 0o755


def test_variants_of_one_containerfile_differ() -> None:
    assert key(ROOT, CPU, "base") != key(ROOT, CUDA, "base")


def test_the_operator_s_context_has_no_engine() -> None:
    assert not [name for name in context_files(ROOT, OPERATOR) if name.startswith("engine/")]
    assert "engine/lepton_engine/embedded/model.safetensors" in context_files(ROOT, CPU)
