"""Tenants before the real engine: what one has computed does nothing for another, not even while it is computed."""

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lepton_service.auth.tokens import TokenEntry, digest
from lepton_service.client import LeptonClient, PermissionError
from tests.service.e2e import serving
from tests.service.e2e.serving import Serving, lepton

TENANTS = {"acme": "token-of-acme", "beta": "token-of-beta"}
BLOCK = 16
LONG = 1600
"""Tokens of a prompt that takes several steps, so that another can arrive while it is computed."""


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("auth") / "tokens"
    path.write_text("".join(TokenEntry("t", name, digest(token)).line() + "\n" for name, token in TENANTS.items()))
    return path


@pytest.fixture(scope="module")
def guarded(tiny: Path, tokens: Path) -> Iterator[Serving]:
    """A server that asks for tokens and computes a long prompt in a hundred steps."""
    server = serving.start(tiny, "--auth-tokens", str(tokens), "--max-num-batched-tokens", str(BLOCK))
    server.ready()
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0, server.log


@pytest.fixture
def clients(guarded: Serving) -> Iterator[dict[str, LeptonClient]]:
    found = {name: LeptonClient(guarded.target, token=token, timeout=120) for name, token in TENANTS.items()}
    yield found
    for client in found.values():
        client.close()


def cached(client: LeptonClient, prompt: list[int]) -> int:
    return client.complete(prompt, max_tokens=1, temperature=0.0).usage.cached_tokens


def ids(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + position * position) % 251 for position in range(length)]


def test_a_prefix_is_cached_for_its_tenant_only(clients: dict[str, LeptonClient]) -> None:
    prompt = ids(1, 10 * BLOCK + 3)
    assert cached(clients["acme"], prompt) == 0
    assert cached(clients["acme"], prompt) == 10 * BLOCK
    assert cached(clients["beta"], prompt) == 0
    assert cached(clients["beta"], prompt) == 10 * BLOCK


def test_a_conversation_is_cached_for_its_tenant_only(clients: dict[str, LeptonClient]) -> None:
    messages: Any = [{"role": "user", "content": "what is told in confidence " * 6}]

    def hits(tenant: str) -> int:
        return clients[tenant].complete(messages, max_tokens=1).usage.cached_tokens

    assert [hits(tenant) for tenant in ("acme", "beta")] == [0, 0]
    assert min(hits(tenant) for tenant in ("acme", "beta")) > 0


@pytest.mark.parametrize("second", ["acme", "beta"])
def test_a_prefix_is_shared_in_flight_within_a_tenant_only(clients: dict[str, LeptonClient], second: str) -> None:
    """The second request arrives while the first is computed, and is told of blocks of its own tenant only."""
    prompt = ids(2 if second == "acme" else 3, LONG)
    found: list[int] = []
    before = clients["acme"].stats()

    def first() -> None:
        found.append(cached(clients["acme"], prompt))

    thread = threading.Thread(target=first)
    thread.start()
    try:
        while thread.is_alive() and clients["acme"].stats().running == before.running:
            pass
        found_by_second = cached(clients[second], prompt)
    finally:
        thread.join()
    assert found == [0]
    if second == "acme":
        assert found_by_second > 0
    else:
        assert found_by_second == 0


def test_a_tenant_takes_as_many_steps_as_if_it_were_alone(clients: dict[str, LeptonClient]) -> None:
    """Time follows the steps, and a prompt of a hundred takes all of them, whatever another tenant has computed."""
    prompt = ids(4, LONG)

    def steps(tenant: str) -> int:
        before = clients[tenant].stats().steps
        cached(clients[tenant], prompt)
        return int(clients[tenant].stats().steps - before)

    alone, after, again = steps("acme"), steps("beta"), steps("beta")
    assert alone == after >= LONG // BLOCK
    assert again < 10


def test_commands_bring_tokens(guarded: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.write_text(TENANTS["acme"] + "\n")
    asked = ["generate", "hello", "--server", guarded.target, "--max-tokens", "2"]
    refused = lepton(*asked)
    assert refused.returncode == 1
    assert "UNAUTHENTICATED" in refused.stderr
    assert lepton(*asked, "--token-file", str(mine)).returncode == 0
    missing = lepton(*asked, "--token-file", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert "none: No such file" in missing.stderr
    monkeypatch.setenv("LEPTON_TOKEN", TENANTS["beta"])
    assert lepton(*asked).returncode == 0
    away = lepton("generate", "hello", "--server", "192.0.2.1:50051")
    assert away.returncode == 1
    assert "in plaintext" in away.stderr


def test_a_server_reads_tokens_again(guarded: Serving, tokens: Path) -> None:
    entry = TokenEntry("late", "acme", digest("token-of-late"))
    with LeptonClient(guarded.target, token="token-of-late") as client:
        with pytest.raises(PermissionError):
            client.get_model()
        fresh = tokens.with_name("fresh")
        fresh.write_text(tokens.read_text() + entry.line() + "\n")
        fresh.replace(tokens)
        assert client.get_model().name
    assert re.search(r"token file \S+ is read again", guarded.log)


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--auth-tokens", "none.txt"], 1, "token file none.txt cannot be read"),
        (["--auth-jwks", "none.json", "--auth-issuer", "i", "--auth-audience", "a"], 1, "JWKS file none.json cannot"),
        (["--auth-jwks", "none.json"], 2, "--auth-jwks needs --auth-issuer"),
        (["--tls-tenant", "cn"], 2, "--tls-tenant needs --tls-client-ca"),
    ],
)
def test_flags_that_cannot_be_used_end_the_command(flags: list[str], status: int, message: str) -> None:
    ended = lepton("serve", "--port", "0", "--control-port", "0", *flags)
    assert ended.returncode == status
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_that_is_open_to_others_says_so_once(tiny: Path) -> None:
    server = serving.start(tiny, "--host", "0.0.0.0")
    server.process.send_signal(signal.SIGTERM)
    server.finish()
    assert server.log.count("LISTENING ON 0.0.0.0 WITHOUT TLS AND AUTHENTICATION") == 1
