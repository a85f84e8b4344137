"""A headless Chromium: the system's own, or Debian's packages unpacked into the user's cache folder.

Nothing of the system is changed: apt keeps its lists and archives in a folder of ours, and says which of the packages
that Chromium needs are missing here; they are unpacked side by side. It takes about ten seconds, once a machine.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lepton" / "browser"
NAMES = ("chromium-headless-shell", "chromium", "google-chrome", "google-chrome-stable", "chrome")
PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
PROGRAM = Path("usr/lib/chromium/chromium-headless-shell")
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir><dir>{root}/usr/share/fonts</dir><cachedir>{root}/fonts-cache</cachedir>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
  <match target="pattern">
    <edit name="family" mode="append_last"><string>DejaVu Sans</string></edit>
  </match>
</fontconfig>
"""


class NoBrowserError(Exception):
    """There is no browser here, and none to be had; the text says why."""


class BrokenBrowserError(Exception):
    """There should be a browser here: the packages can be had."""


@dataclass(frozen=True)
class Browser:
    """A browser that starts.

    Attributes:
        environment: what it needs beside the test's own variables.
    """

    program: str
    environment: dict[str, str] = field(default_factory=dict)

    def works(self) -> bool:
        """Whether it starts and tells its version."""
        environment = {**os.environ, **self.environment}
        try:
            found = subprocess.run([self.program, "--version"], env=environment, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return found.returncode == 0


def browser() -> Browser:
    """A browser.

    Raises:
        NoBrowserError, BrokenBrowserError.
    """
    for name in NAMES:
        path = shutil.which(name)
        if path is not None and Browser(path).works():
            return Browser(path)
    with _lock():
        root = CACHE / "chromium"
        if not _unpacked(root).works():
            _unpack(root)
        (root / "fonts.conf").write_text(FONTS.format(root=root))
        found = _unpacked(root)
        if not found.works():
            raise BrokenBrowserError(f"{found.program} does not start: remove {root} to have it unpacked anew")
        return found


def _unpacked(root: Path) -> Browser:
    folders = sorted({str(path.parent) for path in root.glob("usr/lib/**/*.so*")}) if root.is_dir() else []
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(folders), "FONTCONFIG_FILE": str(root / "fonts.conf")}
    return Browser(str(root / PROGRAM), environment)


def _unpack(root: Path) -> None:
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise NoBrowserError(f"no Chromium is installed, and there is no {tool} to get Debian's")
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        work = Path(name)
        for folder in ("lists/partial", "archives/partial", "root"):
            (work / folder).mkdir(parents=True)
        try:
            _apt(work, "update", "-o", "APT::Update::Error-Mode=any")
        except subprocess.CalledProcessError as error:
            raise NoBrowserError(
                f"no Chromium is installed, and Debian's lists cannot be had: {_said(error)}"
            ) from error
        try:
            _apt(work, "install", "--yes", "--no-install-recommends", "--download-only", *PACKAGES)
            for archive in sorted((work / "archives").glob("*.deb")):
                subprocess.run(["dpkg", "-x", archive, work / "root"], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise BrokenBrowserError(f"Debian's Chromium cannot be unpacked: {_said(error)}") from error
        shutil.rmtree(root, ignore_errors=True)
        (work / "root").rename(root)


def _apt(work: Path, *arguments: str) -> None:
    options = {
        "Dir::State::lists": work / "lists",
        "Dir::Cache::archives": work / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Debug::NoLocking": "1",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "30",
        "Acquire::Languages": "none",
    }
    if os.geteuid() == 0:
        options["APT::Sandbox::User"] = "root"  # no other user may write into our folder
    given = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    subprocess.run(["apt-get", *given, *arguments], check=True, capture_output=True, text=True, timeout=300)


def _said(error: subprocess.CalledProcessError) -> str:
    said = error.stderr if isinstance(error.stderr, str) else (error.stderr or b"").decode(errors="replace")
    return " ".join(said.split())[-300:]


@contextmanager
def _lock() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
