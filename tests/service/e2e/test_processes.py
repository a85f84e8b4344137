"""How servers end: by signals, by their engine's end, by models that do not load. Each leaves no process behind."""

import signal
from pathlib import Path

import psutil
import pytest

from lepton_service.client import LeptonClient, UnavailableError
from tests.service.e2e.serving import gone, start


def test_without_a_model_the_embedded_one_is_served_and_a_stream_survives_sigterm() -> None:
    server = start()
    assert server.ready() == "lepton-embedded"
    (engine,) = server.engines()
    with LeptonClient(server.target) as client:
        texts = ["".join(client.generate(prompt, max_tokens=24).texts()) for prompt in ("我今天去了公园", "One day")]
        assert all(texts)
        assert client.complete([{"role": "user", "content": "你好"}], max_tokens=24).choices[0].text
        stream = iter(client.generate("One day", max_tokens=400, ignore_eos=True))
        events = [next(stream)]
        engine.terminate()  # as a service manager does, which signals every process of a service
        server.process.send_signal(signal.SIGTERM)
        events += stream
        assert sum(len(event.delta.token_ids) for event in events) == 400
    assert server.finish() == 0
    assert gone(engine)


def test_a_second_sigterm_ends_at_once(tiny: Path) -> None:
    server = start(tiny, "--drain-propagation", "1000")
    server.ready()
    (engine,) = server.engines()
    with LeptonClient(server.target) as client, client.generate("hello", max_tokens=2000, ignore_eos=True) as stream:
        events = iter(stream)
        next(events)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(r"(draining)")
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == 143
    assert gone(engine)


def test_an_engine_that_is_killed_ends_streams_and_is_started_again(tiny: Path) -> None:
    server = start(tiny)
    server.ready()
    (engine,) = server.engines()
    with LeptonClient(server.target) as client:
        streams = [iter(client.generate([7] * 5, ignore_eos=True, n=4)) for _ in range(3)]
        for stream in streams:
            next(stream)
        engine.suspend()  # so that none of them ends before it is killed
        engine.kill()
        for stream in streams:
            with pytest.raises(UnavailableError) as caught:
                for _ in stream:
                    pass
            assert caught.value.reason == "ENGINE_UNAVAILABLE"
            assert caught.value.retry_after is not None
        server.wait_for(r"(the engine is started again)")
        server.wait_for(r"(is ready)", times=2)
        assert gone(engine)
        (second,) = server.engines()
        assert second.pid != engine.pid
        assert len(client.complete([7] * 5, max_tokens=4, ignore_eos=True).choices[0].token_ids) == 4
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0
    assert gone(second)
    assert "the engine has ended" in server.log
    assert "Traceback" not in server.log


def test_sigterm_while_the_model_loads_ends_both_processes(tiny: Path) -> None:
    server = start(tiny)
    (engine,) = server.engines()
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0
    assert gone(engine)
    assert "is ready" not in server.log
    assert "Traceback" not in server.log


def test_a_front_end_that_is_killed_takes_its_engine_along(tiny: Path) -> None:
    server = start(tiny)
    server.ready()
    (engine,) = server.engines()
    server.process.kill()
    assert server.finish() == -signal.SIGKILL
    psutil.wait_procs([engine])
    assert gone(engine)


def test_a_model_that_is_not_there_is_explained(tmp_path: Path) -> None:
    server = start(tmp_path / "nothing")
    assert server.finish() == 1
    assert "nothing" in server.log
    assert "Traceback" not in server.log


def test_more_memory_than_there_is_is_explained(tiny: Path) -> None:
    server = start(tiny, "--kv-cache-memory", "4096")
    assert server.finish() == 1
    assert "OutOfMemoryError" in server.log
