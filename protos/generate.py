"""Generates the Python of every proto file: messages, services and typing stubs for both.

    python protos/generate.py [--out FOLDER]     default: beside the proto files

Needs grpcio-tools and mypy-protobuf beside the interpreter that runs it. The output depends on their versions, which
constraints.txt pins; tests/protos compares what is checked in with a fresh run.
"""

import argparse
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def sources() -> list[str]:
    """The proto files, relative to the source root, sorted."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "lepton").rglob("*.proto"))


def generate(out: Path) -> None:
    """Writes the Python of all proto files under `out`, in the folders of their packages.

    Raises:
        RuntimeError: protoc failed; it has said why on stderr.
    """
    binaries = Path(sys.executable).parent
    includes = Path(protoc.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT}",
            f"--proto_path={includes}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *sources(),
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with exit status {code}")
    for stale in stale_files(out):
        stale.unlink()


def stale_files(out: Path) -> list[Path]:
    """Generated files under `out` that no proto file stands behind any more."""
    expected = {out / (source.removesuffix(".proto") + suffix) for source in sources() for suffix in SUFFIXES}
    generated = [path for path in (out / "lepton").rglob("*_pb2*") if path.name.endswith(SUFFIXES)]
    return sorted(path for path in generated if path not in expected)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Generate the Python of the lepton.v1 contract.")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write to (default: beside the proto files)")
    generate(parser.parse_args().out)


if __name__ == "__main__":
    main()
