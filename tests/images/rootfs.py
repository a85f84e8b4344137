"""A built image on this machine: its configuration and layers, and commands in it as the operator's pods run them."""

import gzip
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a pod has: a root that cannot be written to, /tmp that can, a user without a name or rights.
POD = """
set -eu
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
mount -o remount,bind,ro "$1"
root=$1
shift
exec env -i "$@"
"""
USER = ("setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")


@dataclass(frozen=True)
class Image:
    """An image that was unpacked.

    Attributes:
        config: as the archive has it.
        layers: the archive's layers, the lowest first.
        root: folder with what all layers make together.
    """

    names: list[str]
    config: dict[str, Any]
    layers: list[Path]
    root: Path

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command as a pod would: the image's environment, read-only root, user 65532, no capabilities."""
        values = [*self.config["config"]["Env"], *(f"{name}={value}" for name, value in variables.items())]
        inside = ["chroot", str(self.root), *USER, "--no-new-privs", *command]
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", POD, "sh", str(self.root), *values, *inside],
            capture_output=True,
            text=True,
            check=False,
        )

    def compressed(self, layer: Path) -> int:
        """Bytes of a layer as registries keep it."""
        return len(gzip.compress(layer.read_bytes(), 6))

    def files(self, layer: Path) -> dict[str, int]:
        """Paths and sizes in a layer, without folders."""
        with tarfile.open(layer) as tar:
            return {member.name: member.size for member in tar if not member.isdir()}


def unpack(archive: Path, into: Path) -> Image:
    """Unpacks a docker-archive. Needs root, so that owners are kept."""
    parts, root = into / "archive", into / "root"
    parts.mkdir()
    root.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", parts], check=True)
    (manifest,) = json.loads((parts / "manifest.json").read_text())
    layers = [parts / name for name in manifest["Layers"]]
    for layer in layers:
        with tarfile.open(layer) as tar:
            marks = [root / name for name in tar.getnames() if Path(name).name.startswith(".wh.")]
        for mark in marks:  # What a layer removes of those below it.
            gone = mark.with_name(mark.name.removeprefix(".wh."))
            subprocess.run(["rm", "-rf", gone], check=True)
        subprocess.run(["tar", "--numeric-owner", "--exclude=.wh.*", "-xpf", layer, "-C", root], check=True)
    return Image(manifest["RepoTags"], json.loads((parts / manifest["Config"]).read_text()), layers, root)
