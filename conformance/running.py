"""Our server for the suites, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance.programs import INTEROP
from tests.cluster.certificates import Authority

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Running:
    """A server that listens on 127.0.0.1.

    Attributes:
        authority: PEM file of who signed its certificate; None for plaintext.
    """

    port: int
    authority: Path | None

    @property
    def connection(self) -> str:
        """For the table."""
        return "plaintext" if self.authority is None else "TLS"


def command(suite: str, descriptors: Path) -> list[str]:
    """How `conformance.server` is started for a suite."""
    return [sys.executable, "-m", "conformance.server", suite, "--descriptors", str(descriptors)]


@contextmanager
def interop_server(programs: Path, keys: Path | None) -> Iterator[Running]:
    """A server with TestService; with TLS where `keys` names a folder that is made for them."""
    arguments, authority = command("interop", programs / INTEROP), None
    if keys is not None:
        signer = Authority(keys)
        authority = signer.pair.certificate
        pair = signer.sign("server", user="server", hosts=["localhost", "127.0.0.1"])
        arguments += ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with {process.wait()} before it listened")
        yield Running(int(line), authority)
    finally:
        process.kill()
        process.wait()
