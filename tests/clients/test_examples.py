"""The examples in Go, TypeScript and Java, each by its own tests, against `lepton serve` on the embedded model."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lepton_service.auth.tokens import TokenEntry, make_token
from lepton_service.client import SERVICE_CONFIG
from tests.clients.toolchains import ROOT, TOOLCHAINS, example, prepare, run
from tests.cluster.certificates import Authority
from tests.service.e2e import serving

CLIENTS = ROOT / "examples" / "clients"


@dataclass(frozen=True)
class Servers:
    """The environment of the examples' tests: a server in plaintext, another with TLS."""

    variables: dict[str, str]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("clients")
    authority = Authority(folder / "keys")
    pair = authority.sign("server", user="server", hosts=["localhost", "127.0.0.1"])
    token = make_token()
    tokens = folder / "tokens"
    tokens.write_text(TokenEntry("examples", "examples", hashlib.sha256(token.encode()).digest()).line() + "\n")
    plain = serving.start()
    tls = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    secure = serving.start(None, *tls, "--auth-tokens", str(tokens))
    try:
        plain.ready()
        secure.ready()
        yield Servers(
            {
                "LEPTON_TARGET": plain.target,
                "LEPTON_TLS_TARGET": secure.target,
                "LEPTON_CA": str(authority.pair.certificate),
                "LEPTON_TOKEN": token,
            }
        )
    finally:
        serving.end_all()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("language", TOOLCHAINS)
def test_example(language: str, servers: Servers) -> None:
    toolchain = TOOLCHAINS[language]
    if program := toolchain.missing():
        pytest.skip(f"no {program} on this machine")
    with example(language) as folder:
        prepare(toolchain, folder)
        run(toolchain.test, folder, servers.variables)


def test_every_example_has_the_published_service_config() -> None:
    found = [path for path in CLIENTS.rglob("service_config.json") if "node_modules" not in path.parts]
    found = [path for path in found if not {"dist", "target"} & set(path.parts)]
    assert sorted(path.relative_to(CLIENTS).parts[0] for path in found) == sorted(TOOLCHAINS)
    for path in found:
        assert json.loads(path.read_text()) == SERVICE_CONFIG, path


def test_no_lock_file_names_a_registry() -> None:
    for path in (CLIENTS / "typescript" / "package-lock.json", CLIENTS / "go" / "go.sum"):
        assert "://" not in _without_funding(path)


def _without_funding(path: Path) -> str:
    """The file but for the addresses under `funding`, which are no registries."""
    if path.suffix != ".json":
        return path.read_text()
    lock = json.loads(path.read_text())
    for package in lock["packages"].values():
        package.pop("funding", None)
    return json.dumps(lock)
