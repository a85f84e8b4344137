"""Stand-ins for NVIDIA's libraries, for torch on machines without a GPU.

PyPI's torch for Linux is linked with CUDA and does not load without it. `standins.py SITE_PACKAGES` blanks torch's GPU
code (so that it takes no room in a compressed layer) and puts small libraries in the place of NVIDIA's: each function
that torch links with answers as CUDA does where there is no device.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

LIBRARY = re.compile(r"lib(cu|nv|nccl)[A-Za-z_]*\.so\.\d+$")
FUNCTION = re.compile(r"(__)?(cu|nv|nccl)[A-Za-z]")
GPU_CODE = ("__nv_relfatbin", ".nv_fatbin")
NO_DEVICE = 100  # cudaErrorNoDevice
COMPILER = ("cc", "-shared", "-fPIC", "-O1", "-s", "-w", "-fno-builtin")


def main(lib: Path) -> None:
    """Prepares the libraries in torch's folder `lib`. Raises CalledProcessError where binutils or the compiler fail."""
    libraries = sorted(lib.glob("*.so"))
    functions: dict[str, set[str]] = {}
    versions: dict[str, str] = {}
    missing: set[str] = set()
    for library in libraries:
        missing |= {name for name in needed(library) if LIBRARY.match(name)}
        versions |= needed_versions(library)
        for name, version in undefined(library):
            if FUNCTION.match(name):
                functions.setdefault(version, set()).add(name)
        blank(library)
    for name in sorted(missing):
        version = versions.get(name, "")
        # What has no version may be in any library that has none.
        make(lib / name, functions.get(version, ()), version)
    print(f"{len(missing)} stand-ins: {', '.join(sorted(missing))}")


def needed(library: Path) -> list[str]:
    """The libraries that one is linked with."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", _said("readelf", "-d", "-W", str(library)))


def needed_versions(library: Path) -> dict[str, str]:
    """The version that a library's symbols must have, by library; those without are left out."""
    return dict(re.findall(r"File: (\S+)\s+Cnt: \d+\n.*?Name: (\S+)", _said("readelf", "-V", "-W", str(library))))


def undefined(library: Path) -> list[tuple[str, str]]:
    """Symbols that a library expects of others, as (name, version)."""
    lines = _said("nm", "-D", "-P", "--undefined-only", str(library)).splitlines()
    found = [line.split()[0].partition("@") for line in lines]
    return [(name, version.lstrip("@")) for name, _, version in found]


def blank(library: Path) -> None:
    """Overwrites the sections that hold GPU code with zeros."""
    sections = _said("readelf", "-S", "-W", str(library))
    for name in GPU_CODE:
        found = re.search(rf"\] {re.escape(name)}\s+\S+\s+\S+\s+(\S+)\s+(\S+)", sections)
        if found is not None:
            with library.open("r+b") as file:
                file.seek(int(found[1], 16))
                file.write(bytes(int(found[2], 16)))


def make(library: Path, functions: Iterable[str], version: str) -> None:
    """Compiles a stand-in with these functions, their symbols of this version."""
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "source.c"), Path(folder, "versions.map")
        source.write_text("\n".join(definition(name) for name in sorted(functions)))
        script.write_text(f"{version} {{ global: *; }};")
        versioned = [f"-Wl,--version-script={script}"] if version else []
        # Without a build id, which would be of the temporary folder's name.
        flags = [*versioned, f"-Wl,-soname,{library.name}", "-Wl,--build-id=none"]
        subprocess.run([*COMPILER, *flags, "-o", str(library), str(source)], check=True)


def definition(function: str) -> str:
    """A function in C that answers as there being no device, or with a text where texts are asked for."""
    if function.endswith(("GetErrorString", "GetErrorName")):
        return f'const char *{function}(void) {{ return "no CUDA in this build"; }}'
    return f"int {function}(void) {{ return {NO_DEVICE}; }}"


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "torch" / "lib")
