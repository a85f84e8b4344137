"""The `lepton` command as people type it."""

import json
import re
from pathlib import Path

import pytest

from tests.service.e2e.serving import Serving, lepton


def test_lepton_generate_streams_from_a_server(served: Serving) -> None:
    flags = ("--server", served.target, "--max-tokens", "12", "--temperature", "0", "--stats")
    result = lepton("generate", "hello", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert "12 generated" in result.stderr
    assert lepton("generate", "-", *flags, text="hello\n").stdout == result.stdout


def test_lepton_generate_runs_in_process_too(served: Serving, tiny: Path) -> None:
    flags = ("hello", "--max-tokens", "12", "--temperature", "0")
    local = lepton("generate", *flags, "--model", str(tiny), "--num-threads", "1", "--kv-cache-memory", "32MiB")
    assert local.returncode == 0, local.stderr
    assert local.stdout == lepton("generate", *flags, "--server", served.target).stdout


def test_lepton_generate_explains_what_fails(served: Serving, tmp_path: Path) -> None:
    result = lepton("generate", "hello", "--server", served.target, "--top-p", "7")
    assert result.returncode == 1
    assert "top_p" in result.stderr
    missing = lepton("generate", "hello", "--model", str(tmp_path / "nothing"))
    assert missing.returncode == 1
    assert "nothing" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_lepton_chat_holds_a_conversation(served: Serving) -> None:
    flags = ("chat", "--server", served.target, "--max-tokens", "5", "--temperature", "0", "--stats")
    result = lepton(*flags, text="hello\n\nand then?\n/reset\nhello\n/exit\nnot read\n")
    assert result.returncode == 0, result.stderr
    counts = [int(found) for found in re.findall(r"(\d+) prompt tokens", result.stderr)]
    assert len(counts) == 3
    assert counts[1] > counts[0] == counts[2]


def test_lepton_bench_measures(served: Serving, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    load = ("--requests", "8", "--concurrency", "4", "--prompt-tokens", "8-16", "--output-tokens", "10")
    result = lepton("bench", "--server", served.target, *load, "--json", str(file))
    assert result.returncode == 0, result.stderr
    figures = json.loads(file.read_text())
    assert (figures["results"]["requests"], figures["results"]["failed"]) == (8, 0)
    assert figures["results"]["generated_tokens"] == 80
    assert figures["results"]["inter_token_latency_ms"]["p99"] > 0
    assert figures["results"]["client_cpu_seconds"] > 0
    assert "time to first token" in result.stdout


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--tls-cert", "a.pem"], 2, "--tls-key"),
        (["--tls-client-ca", "a.pem"], 2, "--tls-cert"),
        (["--tls-cert", "a.pem", "--tls-key", "b.pem"], 1, "a.pem cannot be read"),
        (["--port", "99999"], 2, "not a port"),
        (["--kv-cache-memory", "lots"], 2, "not a size"),
    ],
)
def test_flags_that_cannot_be_used_are_explained(flags: list[str], status: int, message: str) -> None:
    result = lepton("serve", "--port", "0", "--control-port", "0", *flags)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_explained(served: Serving) -> None:
    port = served.target.rpartition(":")[2]
    result = lepton("serve", "--port", port, "--control-port", "0")
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_of_every_command() -> None:
    listed = lepton("--help").stdout
    for command in ("serve", "generate", "chat", "bench"):
        assert command in listed
        assert "usage" in lepton(command, "--help").stdout
    assert lepton("nonsense").returncode == 2
    assert lepton().returncode == 2
