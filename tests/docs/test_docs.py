"""What the pages say can be followed: links resolve, commands, flags and targets exist."""

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lepton_service.cli import commands as commands_of_lepton

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "charts").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
PAGES = [page for page in PAGES if "node_modules" not in page.parts]
MANIFESTS = sorted((ROOT / "examples" / "models").rglob("*.yaml"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_resolve(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def commands(page: Path) -> Iterator[list[str]]:
    """Command lines of a page's examples, or of a manifest's comments, as words."""
    lines = re.sub(r"\\\n[# ]*", "", page.read_text()).splitlines()
    for line in lines:
        found = re.match(r"(?: {4}|# {2,}|\t)(?:\$ )?(\S.*)", line)
        for part in re.split(r" \| | && |[;,] ", found[1]) if found else ():
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                del words[0]
            if words:
                yield words


def flags(made: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """The flags that the subcommand in these words takes, of all levels."""
    found = set(made._option_string_actions)
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word in words:
                if word in action.choices:
                    found |= flags(action.choices[word], words)
    return found


def test_flags_of_lepton_exist() -> None:
    checked, wrong = 0, []
    for page in [*PAGES, *MANIFESTS]:
        for words in commands(page):
            if words[0].rpartition("/")[2] == "lepton":
                checked += 1
                if words[1:] and words[1] in commands_of_lepton():
                    made = argparse.ArgumentParser()
                    commands_of_lepton()[words[1]].load().add_arguments(made)
                    known = flags(made, words[2:])
                else:
                    known = {"--version", "--help"}
                    wrong += [f"{names(page)}: {' '.join(words)}"] if len(words) > 1 and words[1] not in known else []
                used = {word.partition("=")[0] for word in words if word.startswith("--")}
                wrong += [f"{names(page)}: {' '.join(words)}: {flag}" for flag in sorted(used - known)]
    assert wrong == []
    assert checked > 15


def test_targets_and_modules_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    checked, wrong = 0, []
    for page in [*PAGES, *MANIFESTS]:
        for words in commands(page):
            if words[0] == "make":
                used = [word for word in words[1:2] if re.fullmatch(r"[a-z][a-z-]+", word)]
                wrong += [f"{names(page)}: make {word}" for word in used if word not in targets]
            elif words[:2] == ["python", "-m"] and re.match(r"(benchmarks|tests|images|conformance)\b", words[2]):
                wrong += [f"{names(page)}: {words[2]}"] if importlib.util.find_spec(words[2]) is None else []
            else:
                continue
            checked += 1
    assert wrong == []
    assert checked > 20


def test_paths_and_values_of_helm_and_kubectl_exist() -> None:
    values = yaml.safe_load((ROOT / "charts" / "lepton" / "values.yaml").read_text())
    checked, wrong = 0, []
    for page in [*PAGES, *MANIFESTS]:
        text = page.read_text()
        for setting in re.findall(r"--set ([\w.]+)=", text):
            found = values
            for part in setting.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            wrong += [f"{names(page)}: --set {setting}"] if found is None else []
        for path in re.findall(r"(?<![\w/.])(?:examples/models|charts|images)/[\w/.-]*\w", text):
            checked += 1
            wrong += [f"{names(page)}: {path}"] if not (ROOT / path).exists() else []
    assert wrong == []
    assert checked > 10
