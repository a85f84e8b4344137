"""The suites' programs, built once from the Go module in programs/ into the user's cache folder.

Beside them in that folder lie the descriptors of the services that the suites call, so that none of their files is
copied into this repository.
"""

import subprocess
from pathlib import Path

from grpc_tools import protoc

from tests.cluster.build import Go, build_once, fingerprint, run_go

MODULE = Path(__file__).parent / "programs"
PACKAGES = {
    "client": "google.golang.org/grpc/interop/client",
    "connectconformance": "connectrpc.com/conformance/cmd/connectconformance",
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec",
    "descriptors": "./descriptors",
}
INTEROP, CONNECT = "grpc-testing.binpb", "connect-conformance.binpb"
_CONNECT_MODULE = "connectrpc.com/conformance"


def folder() -> Path:
    """Where the programs and descriptor sets are, built first where they are not in the cache.

    Raises:
        BuildError: there is no Go toolchain and none to be had, a download or the compiler failed.
    """
    files = sorted(path for path in MODULE.rglob("*") if path.suffix in (".go", ".mod", ".sum"))
    recipe = Path(__file__).read_bytes()
    return build_once("conformance", fingerprint(recipe, *(path.read_bytes() for path in files)), _build)


def _build(go: Go, into: Path) -> None:
    flags = ["-trimpath", "-ldflags", "-s -w"]
    run_go([go.program, "build", *flags, "-o", f"{into}/", *PACKAGES.values()], go, cwd=MODULE)
    described = subprocess.run([into / "descriptors"], capture_output=True, check=True)
    (into / INTEROP).write_bytes(described.stdout)
    where = subprocess.run(
        [go.program, "list", "-m", "-f", "{{.Dir}}", _CONNECT_MODULE],
        cwd=MODULE,
        capture_output=True,
        text=True,
        check=True,
    )
    protos = Path(where.stdout.strip()) / "proto"
    arguments = ["protoc", f"--proto_path={protos}", f"--proto_path={Path(protoc.__file__).parent / '_proto'}"]
    arguments += ["--include_imports", f"--descriptor_set_out={into / CONNECT}"]
    names = ("service", "server_compat")
    code = protoc.main([*arguments, *(f"connectrpc/conformance/v1/{name}.proto" for name in names)])
    if code != 0:
        raise RuntimeError(f"protoc ended with exit status {code}")
