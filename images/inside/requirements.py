"""What other people's packages an image needs, from the pyproject.toml files of Lepton's distributions.

`requirements.py server|operator` reads FOLDER/pyproject.toml of each distribution below the working folder and prints
requirements, one a line. torch is not among them: the server's image has a layer of its own for it.
"""

import re
import sys
import tomllib
from pathlib import Path

FOLDERS = {
    "lepton-protos": "protos",
    "lepton-engine": "engine",
    "lepton-service": "service",
    "lepton-operator": "operator",
}
WANTED = {
    "server": ["lepton-service[server,http]", "lepton-operator[fetch,otlp]"],
    "operator": ["lepton-service", "lepton-operator[otlp]"],
}
"""Distributions and their extras, by image. The server's has the operator's for `lepton fetch`, which pods run."""
SEPARATE = "torch"
_NAME = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[(?P<extras>[^\]]*)\])?")


def requirements(image: str, root: Path) -> list[str]:
    """Third-party requirements of an image, sorted.

    Raises:
        KeyError: no such image, or a distribution has no such extra.
    """
    found: set[str] = set()
    seen: set[str] = set()
    queue = list(WANTED[image])
    while queue:
        requirement = queue.pop()
        match = _NAME.match(requirement)
        assert match is not None, f"not a requirement: {requirement}"
        name = match["name"].lower()
        if name not in FOLDERS:
            if name != SEPARATE:
                found.add(requirement)
        elif requirement not in seen:
            seen.add(requirement)
            project = tomllib.loads((root / FOLDERS[name] / "pyproject.toml").read_text())["project"]
            queue += project.get("dependencies", [])
            for extra in filter(None, (match["extras"] or "").split(",")):
                queue += project["optional-dependencies"][extra.strip()]
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1], Path.cwd())))
