"""Tests of built images: a part of `make e2e`, since building takes minutes and root."""

import os
import shutil
from collections.abc import Iterator

import pytest

from images.build import build
from images.variants import CACHE, VARIANTS
from tests.e2e.size import asked
from tests.images.rootfs import Image, unpack

if asked() is None:
    collect_ignore_glob = ["test_*.py"]


def _unpacked(name: str) -> Iterator[Image]:
    if os.geteuid() != 0:
        pytest.exit("tests of images build them: run them as root", returncode=1)
    folder = CACHE / f".unpacked-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield unpack(build(VARIANTS[name]), folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def operator() -> Iterator[Image]:
    yield from _unpacked("operator")


@pytest.fixture(scope="session")
def server() -> Iterator[Image]:
    yield from _unpacked("server-cpu")


@pytest.fixture(params=["operator", "server"])
def image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.getfixturevalue(request.param)
    return found
