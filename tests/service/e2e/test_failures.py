"""Engines that hang, crash and are killed, and calls that are cancelled anywhere: the server goes on, nothing leaks."""

import signal
from pathlib import Path

import pytest

from benchmarks import cancels, kill_engine
from benchmarks.served import serving
from lepton_service.client import InternalError, LeptonClient, UnavailableError
from tests.service.e2e.serving import gone, start


def test_a_step_that_hangs_is_found_and_its_engine_started_again(tiny: Path) -> None:
    server = start(tiny, "--step-timeout", "1.5")
    server.ready()
    (engine,) = server.engines()
    with LeptonClient(server.target, retry=False) as client:
        stream = iter(client.generate([7] * 5, ignore_eos=True))
        next(stream)
        engine.suspend()  # its process is there, its loop makes no progress
        with pytest.raises(UnavailableError) as caught:
            for _ in stream:
                pass
        assert caught.value.reason == "ENGINE_UNAVAILABLE"
        assert "made no progress" in caught.value.message
        server.wait_for(r"(is ready)", times=2)
        assert gone(engine)
        assert len(client.complete([7] * 5, max_tokens=4, ignore_eos=True).choices[0].token_ids) == 4
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0


def test_an_idle_engine_and_one_that_loads_are_not_taken_for_hung(tiny: Path) -> None:
    server = start(tiny, "--step-timeout", "1.2")  # loading takes longer, and an idle loop comes round once a second
    server.ready()
    with LeptonClient(server.target) as client:
        for _ in range(40):
            client.complete([7] * 5, max_tokens=100, ignore_eos=True)
    assert server.log.count("is ready") == 1
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0


def test_a_request_that_kills_the_process_twice_is_refused_and_the_others_are_served(tiny: Path) -> None:
    server = start(tiny)
    for life in range(2):
        server.wait_for(r"(is ready)", times=life + 1)
        (engine,) = server.engines()
        with LeptonClient(server.target, retry=False) as client:
            stream = iter(client.generate([7] * 5, ignore_eos=True, seed=1, max_tokens=1900))
            next(stream)
            engine.send_signal(signal.SIGSEGV)
            with pytest.raises(UnavailableError):
                for _ in stream:
                    pass
    server.wait_for(r"(is ready)", times=3)
    with LeptonClient(server.target, retry=False) as client:
        with pytest.raises(InternalError) as caught:
            client.complete([7] * 5, ignore_eos=True, seed=1, max_tokens=1900)
        assert caught.value.reason == "REQUEST_FAILED"
        assert "ended the engine's process before" in caught.value.message
        assert len(client.complete([7] * 6, max_tokens=4, ignore_eos=True).choices[0].token_ids) == 4
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0


async def test_kills_under_load_end_every_stream_and_leave_nothing() -> None:
    with serving() as server:
        seen = await kill_engine.kill(server, times=3, streams=8, progress=False)
        assert seen.statuses == ["UNAVAILABLE"] * 24
        assert seen.before is not None
        assert seen.after is not None
        assert seen.after.descriptors <= seen.before.descriptors + 2
        assert (seen.after.zombies, seen.after.folders) == (0, seen.before.folders)


async def test_cancels_at_every_point_leave_nothing() -> None:
    with serving(*cancels.FLAGS) as server:
        seen = await cancels.cancel(server, 800, progress=False)
        assert all(seen.counts[kind] for kind in cancels.SHARES), seen.counts
        assert seen.final is not None
        assert seen.final.kv_blocks_free == seen.final.kv_blocks_total
        assert (seen.final.running, seen.final.waiting, seen.final.failed) == (0, 0, 0)
