"""What holds for both Containerfiles, read as text."""

import re
from pathlib import Path

import pytest

from images.variants import ROOT, VARIANTS, version
from tests.images.containerfile import instructions

FILES = sorted({variant.containerfile() for variant in VARIANTS.values()})


@pytest.fixture(params=FILES)
def steps(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    return instructions((ROOT / request.param).read_text())


def last_stage(steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    start = max(index for index, (word, _) in enumerate(steps) if word == "FROM")
    return steps[start:]


def test_there_is_a_base_to_choose(steps: list[tuple[str, str]]) -> None:
    assert ("ARG", "BASE=docker.io/library/debian:12-slim") in steps
    stages = {text.split(" AS ")[1] for word, text in steps if word == "FROM" and " AS " in text}
    origins = {text.split(" AS ")[0] for word, text in steps if word == "FROM"}
    assert origins - stages == {"${BASE}"}
    assert sum(word == "FROM" for word, _ in steps) > 3


def test_the_user_is_numeric_and_has_no_rights(steps: list[tuple[str, str]]) -> None:
    users = [text for word, text in last_stage(steps) if word == "USER"]
    assert users == ["65532:65532"]


def test_nothing_is_added_from_the_network(steps: list[tuple[str, str]]) -> None:
    assert not [text for word, text in steps if word == "ADD"]
    assert not [text for _, text in steps if re.search(r"https?://|curl|wget|index-url", text)]


def test_what_is_installed_is_pinned(steps: list[tuple[str, str]]) -> None:
    installs = [
        command
        for word, text in steps
        if word == "RUN"
        for command in re.split(r"&&|;;|;", text)
        if re.search(r"/inside/pip (install|wheel)", command)
    ]
    assert len(installs) >= 2
    for command in installs:
        pinned = "-c /src/constraints.txt" in command or "PIP_CONSTRAINT=/src/build-constraints.txt" in command
        assert pinned or "--no-index" in command, command


def test_the_host_lends_its_certificates_and_index_as_secrets(steps: list[tuple[str, str]]) -> None:
    runs = [text for word, text in steps if word == "RUN" and "/inside/pip" in text]
    assert runs
    assert all(text.startswith("--mount=type=secret,id=ca --mount=type=secret,id=pip") for text in runs)
    assert not [text for word, text in steps if word == "ENV" and re.search("PIP_|PROXY|proxy|CERT", text)]


def test_a_release_changes_the_last_layer_only(steps: list[tuple[str, str]]) -> None:
    last = last_stage(steps)
    copies = [text for word, text in last if word == "COPY"]
    assert copies[-1] == "--from=lepton /lepton/ /opt/lepton/"
    assert not [text for word, text in last if word in ("RUN", "ADD")]
    # The version is named after all that takes room, and in no stage of other people's packages.
    words = [word for word, _ in last]
    assert words.index("ARG") > max(index for index, word in enumerate(words) if word == "COPY")
    stages = "\n".join(f"{word} {text}" for word, text in steps).split("\nFROM ")
    for stage in stages:
        if " AS torch" in stage.split("\n")[0] or " AS dependencies" in stage.split("\n")[0]:
            assert "VERSION" not in stage.replace("${TORCH}", "")
            assert not re.search(r"COPY (protos|engine|service|operator)/ ", stage)


def test_labels_tell_the_version(steps: list[tuple[str, str]]) -> None:
    (labels,) = [text for word, text in last_stage(steps) if word == "LABEL"]
    for name in ("title", "description", "version"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_constraints_of_the_build_are_exact() -> None:
    lines = (ROOT / "images" / "build-constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins == sorted(pins)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin) for pin in pins)
    assert {"hatchling", "scikit-build-core", "cmake", "ninja"} <= {pin.partition("==")[0] for pin in pins}


def test_versions_are_those_of_the_distributions() -> None:
    assert version("operator") in VARIANTS["operator"].tag()
    assert VARIANTS["server"].tag() == f"lepton/server:{version('server')}"
    assert VARIANTS["server-cpu"].tag() == f"lepton/server:{version('server')}-cpu"


def test_no_machine_s_paths_or_hosts_are_in_the_files() -> None:
    for path in [*(ROOT / "images").rglob("*")]:
        if path.is_file() and path.suffix != ".pyc":
            assert not re.search(r"/work/|/root/|/tmp/\w", path.read_text()), path


def test_instructions_are_read_across_lines() -> None:
    assert instructions("# a\nRUN a && \\\n    b\n\nUSER 1\n") == [("RUN", "a && b"), ("USER", "1")]


def test_paths_exist() -> None:
    assert all(Path(ROOT, name).is_file() for name in FILES)
