"""Finishes a folder of installed packages for an image: `finish.py PREFIX LIST`.

Removes what no pod uses, and compiles the rest: a pod's root is read-only, so what is not compiled here is compiled by
each start anew. Writes the folder's packages, for the SBOM, into the file LIST.
"""

import compileall
import json
import py_compile
import shutil
import sys
from email import message_from_string
from pathlib import Path

UNUSED = ("torch/include", "torch/share", "nvidia/*/include", "nvidia/*/share", "nvidia/*/bin")
"""Headers and tools for whoever compiles against torch or CUDA. Triton brings the headers that it needs."""
UNUSED_FILES = ("*.a", "direct_url.json", "REQUESTED")


def main(prefix: Path, list_: Path) -> None:
    """See above."""
    for site in sites(prefix):
        for pattern in UNUSED:
            for folder in site.glob(pattern):
                shutil.rmtree(folder)
        for pattern in UNUSED_FILES:
            for file in site.rglob(pattern):
                file.unlink()
        # By no time stamps: layers have others. Some packages carry sources for other Pythons; those stay as they are.
        compileall.compile_dir(
            str(site),
            quiet=2,
            workers=0,
            force=True,
            stripdir=str(prefix),
            prependdir="/opt/lepton",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    found = [package for site in sites(prefix) for package in packages(site)]
    list_.write_text(json.dumps(found, indent=1))


def sites(prefix: Path) -> list[Path]:
    """The site-packages folders below a prefix."""
    return sorted(prefix.glob("lib/python3*/site-packages"))


def packages(site: Path) -> list[dict[str, str]]:
    """Name, version and licence of what is installed, sorted by name."""
    found = []
    for file in sorted(site.glob("*.dist-info/METADATA")):
        said = message_from_string(file.read_text(errors="replace"))
        license_ = said["License-Expression"] or ""
        found.append({"name": said["Name"], "version": said["Version"], "license": license_})
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
