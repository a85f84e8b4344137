"""The Debian packages that a build needs, and how commands are run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAMS = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}
"""Debian packages by the program that is looked for."""


class ImageError(Exception):
    """An image cannot be built here; the text says why."""


def ensure() -> None:
    """Installs the Debian packages that are missing, and says so first.

    Raises:
        ImageError: not root, no apt-get, or the installation failed.
    """
    if os.geteuid() != 0:
        raise ImageError(
            "building images needs root: mmdebstrap and buildah change owners and mount. Run it as root, or build the "
            "Containerfiles with docker or podman: see images/README.md"
        )
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ImageError(f"{' and '.join(missing)} missing, and no apt-get here to install them with")
    print(f"installing Debian packages: {' '.join(missing)}", file=sys.stderr, flush=True)
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], environment)
    run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], environment)


def run(command: Sequence[str | Path], variables: Mapping[str, str] | None = None) -> str:
    """Runs a command at low priority; what it says goes to the standard error stream of this process.

    Returns:
        Its standard output.

    Raises:
        ImageError: it failed.
    """
    nice = ["nice", "-n", "19"] if shutil.which("nice") else []
    words = [str(word) for word in command]
    done = subprocess.run(
        [*nice, *words], env={**os.environ, **(variables or {})}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise ImageError(f"{' '.join(words[:3])} ... failed with status {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout
