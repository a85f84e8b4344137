"""Refusals by a real engine behind a real server: queue, time in it, deadlines, limits of tenants from a file."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lepton_service.client import LeptonClient, ResourceExhaustedError
from tests.service.e2e.serving import Serving, lepton, start

LIMITS = """
[tenants.single]
max_concurrent_requests = 1

[tenants.metered]
tokens_per_minute = 50
"""


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limits") / "limits.toml"
    path.write_text(LIMITS)
    return path


@pytest.fixture(scope="module")
def narrow(tiny: Path, limits: Path) -> Iterator[Serving]:
    """A server that runs one request and lets one wait."""
    flags = ("--max-num-seqs", "1", "--max-queued-requests", "1", "--max-queue-time", "600")
    server = start(tiny, *flags, "--tenant-limits", str(limits))
    server.ready()
    yield server
    server.process.terminate()
    assert server.finish() == 0, server.log


def tenant(server: Serving, name: str) -> LeptonClient:
    return LeptonClient(server.target, metadata=[("x-lepton-tenant", name)], retry=False)


def refusal(client: LeptonClient, prompt: list[int], **options: object) -> ResourceExhaustedError:
    with pytest.raises(ResourceExhaustedError) as raised:
        client.complete(prompt, **options)  # type: ignore[arg-type]
    return raised.value


def test_a_full_queue_and_too_long_a_wait(narrow: Serving) -> None:
    with tenant(narrow, "") as client, client.generate([7] * 5, max_tokens=2000, ignore_eos=True) as runs:
        next(iter(runs))
        late = refusal(client, [8] * 5, max_tokens=1, max_queue_time=0.02)
        assert late.reason == "QUEUE_TIMEOUT"
        assert late.retry_after is not None
        with client.generate([9] * 5, max_tokens=1, ignore_eos=True) as waits:
            while client.stats().waiting != 1:
                pass
            full = refusal(client, [8] * 5, max_tokens=1)
            assert full.reason == "QUEUE_FULL"
            assert full.retry_after is not None
            assert 0.1 <= full.retry_after <= 60
            assert client.stats().waiting_tokens == 5
            runs.cancel()
            assert [event for event in waits if event.HasField("finished")]
        stats = client.stats()
        assert (stats.rejections.queue_timeout, stats.rejections.queue_full, stats.rejected) == (1, 1, 2)
        assert client.get_model().limits.max_queue_time.ToSeconds() == 600


def test_limits_of_tenants_and_their_change(narrow: Serving, limits: Path) -> None:
    with tenant(narrow, "single") as client, client.generate([7] * 5, max_tokens=2000, ignore_eos=True) as runs:
        next(iter(runs))
        again = refusal(client, [8] * 5, max_tokens=1)
        assert again.reason == "TENANT_CONCURRENCY_EXCEEDED"
        assert "'single' has 1 requests in flight, its limit is 1" in again.message
    with tenant(narrow, "metered") as client:
        client.complete([8] * 40, max_tokens=20, ignore_eos=True)
        owed = refusal(client, [8] * 2, max_tokens=1)
        assert owed.reason == "TENANT_TOKEN_RATE_EXCEEDED"
        assert owed.retry_after is not None
        assert 5 < owed.retry_after <= 15  # Ten tokens are owed and two are wanted, at fifty a minute.
        limits.write_text("tenants = 3")
        narrow.wait_for(r"limits of tenants stay as they were: (tenant_limits\.tenants: 3 is not a table)")
        assert refusal(client, [8] * 2, max_tokens=1).reason == "TENANT_TOKEN_RATE_EXCEEDED"
        limits.write_text("[tenants.metered]\ntokens_per_minute = 5000\n")
        narrow.wait_for(r"limits of tenants are (read again)")
        client.complete([8] * 2, max_tokens=1)
        rejections = client.stats().rejections
        assert (rejections.tenant_concurrency, rejections.tenant_token_rate) == (1, 2)


def test_a_deadline_that_cannot_be_met_is_refused_at_once(narrow: Serving) -> None:
    with tenant(narrow, "") as client:
        for token in range(9):
            client.complete([token, 1, 2] * 6, max_tokens=1)
        began = time.monotonic()
        client.complete([7] * 20, max_tokens=1500, ignore_eos=True)
        took = time.monotonic() - began
        error = refusal(client, [7] * 20, max_tokens=1500, ignore_eos=True, timeout=0.3 * took)
        assert error.reason == "DEADLINE_UNATTAINABLE"
        assert error.retry_after is None
        assert client.complete([7] * 20, max_tokens=1500, timeout=0.3 * took + 60).choices  # It may end with any token.
        assert client.stats().rejections.deadline_unattainable == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--max-queue-time", "0"), "0 is not a time above 0 seconds"),
        (("--max-queued-requests", "-1"), "-1 is not at least 0"),
        (("--tenant-limits", "nowhere.toml"), "tenant_limits: 'nowhere.toml' cannot be read"),
    ],
)
def test_flags_that_cannot_be(flags: tuple[str, str], message: str) -> None:
    result = lepton("serve", *flags)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_file_of_limits_with_a_mistake_ends_the_command(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[default]\ntokens_per_minute = -5\n")
    result = lepton("serve", "--tenant-limits", str(path))
    assert result.returncode == 2
    assert "tenant_limits.default.tokens_per_minute: -5 is not a whole number of at least 1" in result.stderr
    assert "Traceback" not in result.stderr
