"""The bill of materials of an image, as SPDX 2.3: `sbom.py NAME VERSION DPKG_FOLDER PACKAGES.json...`.

Written to the standard output. Of Debian's packages it reads what dpkg knows in the image that will run, of Python's
what finish.py has found.
"""

import hashlib
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote


def main(name: str, version: str, dpkg: Path, lists: list[Path]) -> dict[str, Any]:
    """The document."""
    python = {(p["name"].lower(), p["version"]): p for path in lists for p in json.loads(path.read_text())}
    parts = [
        package(p["name"], p["version"], p["license"], f"pkg:pypi/{canonical(p['name'])}@{quote(p['version'])}")
        for _, p in sorted(python.items())
    ]
    parts += [
        package(p, v, "", f"pkg:deb/debian/{quote(p)}@{quote(v)}?arch={arch}") for p, v, arch in debian_packages(dpkg)
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    image = package(name, version, "", f"pkg:oci/{name.rpartition('/')[2]}@{quote(version)}")
    created = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{version}",
        "documentNamespace": f"urn:sha256:{digest}",
        "creationInfo": {"created": created.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: lepton-images"]},
        "documentDescribes": [image["SPDXID"]],
        "packages": [image, *parts],
        "relationships": [
            {"spdxElementId": image["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": part["SPDXID"]}
            for part in parts
        ],
    }


def package(name: str, version: str, license_: str, url: str) -> dict[str, Any]:
    """A package, identified by its package URL."""
    return {
        "SPDXID": f"SPDXRef-{hashlib.sha256(url.encode()).hexdigest()[:16]}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": license_ or "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url},
        ],
    }


def canonical(name: str) -> str:
    """A Python package's name as package URLs have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def debian_packages(dpkg: Path) -> list[tuple[str, str, str]]:
    """(name, version, architecture) of Debian's packages: from one status file, or one a package (distroless)."""
    files = [dpkg / "status", *sorted((dpkg / "status.d").glob("*"))]
    found = []
    for file in files:
        if not file.is_file() or file.suffix == ".md5sums":
            continue
        for paragraph in file.read_text(errors="replace").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|Architecture): (.+)$", paragraph, re.MULTILINE))
            if len(fields) == 3:
                found.append((fields["Package"], fields["Version"], fields["Architecture"]))
    return sorted(found)


if __name__ == "__main__":
    json.dump(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), [Path(p) for p in sys.argv[4:]]), sys.stdout, indent=1)
