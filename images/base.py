"""The Debian base that images are built on where no registry has one: what debian:12-slim holds, by mmdebstrap."""

import hashlib
import os
from pathlib import Path

from images.tools import ImageError, run

SUITE = "bookworm"
EPOCH = 1767225600
"""Time of all files in images, 2026-01-01: with the time of each build, layers that stay the same would differ."""
NOT_NEEDED = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*")
NEEDED_AFTER_ALL = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")
RECIPE = (
    "mmdebstrap",
    "--quiet",
    "--mode=root",
    "--variant=minbase",
    *(f"--dpkgopt=path-exclude={path}" for path in NOT_NEEDED),
    *(f"--dpkgopt=path-include={path}" for path in NEEDED_AFTER_ALL),
    "--aptopt=APT::Install-Recommends false",
    # The machine's names are no part of an image.
    '--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"',
    '--customize-hook=rm -rf "$1/var/log/"* "$1/var/cache/"*',
    SUITE,
)


def key() -> str:
    """A short key of the recipe. Debian's updates do not change it: `make images-clean` makes the next base anew."""
    return hashlib.sha256(repr((RECIPE, EPOCH)).encode()).hexdigest()[:12]


def base(cache: Path) -> Path:
    """The base as a tar file, made first where the cache has none.

    Raises:
        ImageError: mmdebstrap failed.
    """
    target = cache / f"base-{SUITE}-{key()}.tar"
    if target.exists():
        return target
    part = target.with_suffix(f".part-{os.getpid()}.tar")
    try:
        run([*RECIPE, part], {"SOURCE_DATE_EPOCH": str(EPOCH)})
        part.rename(target)
    except ImageError:
        part.unlink(missing_ok=True)
        raise
    for old in cache.glob("base-*.tar"):
        if old != target:
            old.unlink()
    return target
