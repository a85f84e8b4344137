"""Images made by hand: one static program each, as a docker archive."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

REPOSITORY = "docker.io/lepton-tests"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def name(program: str) -> str:
    """The full name of a program's image."""
    return f"{REPOSITORY}/{program}:tests"


def write(program: Path, archive: Path, user: str = "65532:65532") -> Path:
    """An archive of an image that holds this program alone, and runs it as that user; the archive's path."""
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": user},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name(program.name)], "Layers": ["layer.tar"]}]
    files = {"config.json": _json(config), "manifest.json": _json(manifest), "layer.tar": layer}
    archive.write_bytes(_tar(files, mode=0o644))
    return archive


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
