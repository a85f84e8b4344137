"""What a build says where it cannot be done."""

import os
import subprocess
import sys

import pytest

from images import tools
from images.variants import ROOT


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(tools.ImageError, match="needs root"):
        tools.ensure()


def test_without_apt_it_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(tools.ImageError, match="mmdebstrap and buildah missing"):
        tools.ensure()


def test_a_failed_command_is_an_error_with_what_it_said() -> None:
    with pytest.raises(tools.ImageError, match="status 3:\nsaid"):
        tools.run(["sh", "-c", "echo said; exit 3"])


def test_an_unknown_image_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "images", "other"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no image other; there are: operator, server-cpu, server" in done.stderr
