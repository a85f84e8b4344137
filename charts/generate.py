"""What the chart holds of other parts of the project: `python -m charts.generate` writes it anew (`make chart`).

The CRD and the operator's rules are what `lepton operator crd` and `lepton operator rbac` print, the dashboard is the
service's, and README's table of values comes from the comments in values.yaml.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lepton_operator.crd import crd
from lepton_operator.rbac import rules
from lepton_operator.yaml_text import dump

CHART = Path(__file__).parent / "lepton"
DASHBOARD = Path(__file__).parent.parent / "service" / "lepton_service" / "telemetry" / "dashboards" / "lepton.json"
BEGIN, END = "<!-- values: begin; made by `make chart` -->\n", "<!-- values: end -->\n"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]+):(?P<rest>.*)$")


class CommentError(Exception):
    """values.yaml has a value that no comment describes; the text names it."""


@dataclass(frozen=True)
class Value:
    """One value of values.yaml: its path with dots, its default, its comment."""

    path: str
    default: Any
    comment: str


def described(text: str) -> Iterator[Value]:
    """The values that have a comment beginning with `# --`, in the order of the file."""
    content = yaml.safe_load(text)
    path: list[tuple[int, str]] = []
    comment = ""
    for line in text.splitlines():
        if (stripped := line.strip()).startswith("# -- "):
            comment = stripped.removeprefix("# -- ")
            continue
        found = _KEY.match(line)
        if found is None:
            continue
        indent = len(found["indent"])
        path = [*(part for part in path if part[0] < indent), (indent, found["key"])]
        if comment:
            keys = [key for _, key in path]
            yield Value(".".join(keys), _at(content, keys), comment)
            comment = ""


def values(text: str) -> list[Value]:
    """All values. Raises: CommentError, for one that is described neither itself nor as a part of another."""
    found = list(described(text))
    paths = {value.path for value in found}
    for leaf in _leaves(yaml.safe_load(text), ""):
        parts = leaf.split(".")
        if not any(".".join(parts[:count]) in paths for count in range(1, len(parts) + 1)):
            raise CommentError(f"values.yaml: {leaf} has no comment that begins with '# --'")
    return found


def table(text: str) -> str:
    """README's table."""
    rows = [f"| `{value.path}` | `{json.dumps(value.default)}` | {value.comment} |" for value in values(text)]
    return "\n".join(["| value | default | what |", "| --- | --- | --- |", *rows]) + "\n"


def generated() -> dict[Path, str]:
    """Every file that is made here, with its text."""
    readme = (CHART / "README.md").read_text()
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return {
        CHART / "files" / "crd.yaml": dump([crd()]),
        CHART / "files" / "rules.yaml": dump([{"rules": rules()}]),
        CHART / "files" / "dashboard.json": DASHBOARD.read_text(),
        CHART / "README.md": f"{before}{BEGIN}{table((CHART / 'values.yaml').read_text())}{END}{after}",
    }


def _at(content: Any, keys: list[str]) -> Any:
    for key in keys:
        content = content[key]
    return content


def _leaves(content: Any, path: str) -> Iterator[str]:
    if not isinstance(content, dict) or not content:
        yield path
        return
    for key, value in content.items():
        yield from _leaves(value, f"{path}.{key}" if path else key)


if __name__ == "__main__":
    for file, text in generated().items():
        file.write_text(text)
