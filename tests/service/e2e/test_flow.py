"""Clients that freeze or do not read, before a real engine: they are found, and cost bounded memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from lepton_service.client import LeptonClient, generate_request
from tests.service.e2e.serving import Serving, start
from tests.service.raw import RawCall

METHOD = "/lepton.v1.GenerationService/Generate"
CALLS = 8
MAX_UNREAD = 256 * 1024

FROZEN = """
import sys
from lepton_service.client import LeptonClient
with LeptonClient(sys.argv[1]) as client:
    for event in client.generate([5, 6, 7], n=64, max_tokens=900, ignore_eos=True):
        print(event.WhichOneof("event"), flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    flags = ["--keepalive-time", "0.3", "--keepalive-timeout", "0.3", "--max-unread", str(MAX_UNREAD)]
    serving = start(None, *flags)
    serving.ready()
    yield serving
    serving.process.send_signal(signal.SIGTERM)
    serving.finish()


def until_aborted(client: LeptonClient, count: int) -> None:
    """Returns when so many requests have been aborted and nothing runs any more."""
    for stats in client.watch_stats(0.05):
        if stats.aborted >= count and not stats.running and not stats.waiting:
            assert stats.kv_blocks_free == stats.kv_blocks_total
            return


def test_a_frozen_client_is_found_and_its_blocks_freed(server: Serving) -> None:
    with LeptonClient(server.target) as client:
        before = client.stats().aborted
        process = subprocess.Popen([sys.executable, "-c", FROZEN, server.target], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            os.kill(process.pid, signal.SIGSTOP)
            until_aborted(client, before + 1)
        finally:
            process.kill()
            process.communicate()


async def test_clients_that_never_read_cost_bounded_memory(server: Serving) -> None:
    front = psutil.Process(server.process.pid)
    request = generate_request([5, 6, 7], n=4, max_tokens=900, ignore_eos=True, logprobs=20)
    with LeptonClient(server.target) as client:
        client.complete([5, 6, 7], n=4, max_tokens=8, logprobs=20)
        before, resident = client.stats().aborted, front.memory_info().rss
        calls = [RawCall(server.target, METHOD, request.SerializeToString(), window=1000) for _ in range(CALLS)]
        try:
            for call in calls:
                await call.__aenter__()
            # 3,600 tokens with 20 alternatives are megabytes; each request is ended at its 256 KiB.
            until_aborted(client, before + CALLS)
            assert front.memory_info().rss - resident < CALLS * 8 * MAX_UNREAD
        finally:
            for call in calls:
                await call.__aexit__(None, None, None)
