"""Where a checkpoint is: a folder, or an id in the local Hugging Face cache. Imports no torch, asks no network."""

import os
from pathlib import Path

from lepton_engine.errors import ModelLoadError


def locate_checkpoint(model: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint.

    Args:
        model: a folder, or an id `organisation/name` (or `organisation/name@revision`) in the cache that HF_HUB_CACHE
            or HF_HOME names.

    Raises:
        ModelLoadError: it is neither; the message says where it was looked for.
    """
    folder = Path(model)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelLoadError(f"model: {str(model)!r} is a file, a checkpoint is a folder")
    name, _, revision = str(model).partition("@")
    cached = hub_cache() / f"models--{name.replace('/', '--')}"
    if not cached.is_dir():
        raise ModelLoadError(f"model: {str(model)!r} is no folder, and {cached} does not exist")
    reference = cached / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = cached / "snapshots" / commit
    if not commit or not snapshot.is_dir():
        raise ModelLoadError(f"model: {cached} holds no snapshot of revision {revision or 'main'!r}")
    return snapshot


def hub_cache() -> Path:
    """The folder in which huggingface_hub keeps its repositories."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
