"""Clients that go, wait too long or read slowly; requests that end late; drains."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from lepton_engine.errors import DeadlineExceededError
from lepton_service.app import EXIT_CUT_SHORT, EXIT_OK

Eventually = Callable[[Callable[[], bool]], Any]

ENDLESS = {"prompt": "hi", "max_tokens": 4000, "stream": True}


async def events(response: Any) -> list[Any]:
    return [json.loads(line[6:]) async for line in response.aiter_lines() if line.startswith("data: {")]


async def refuses_connections(port: int) -> None:
    """Returns once nobody listens there."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it ends just now
            continue
        writer.close()


async def test_a_client_that_goes_ends_its_stream(web: Any, eventually: Eventually) -> None:
    async with web.raw.stream("POST", "/v1/completions", json=ENDLESS) as response:
        await anext(response.aiter_bytes())
        web.engine.go.clear()
    await eventually(lambda: web.engine.jobs == [])
    assert web.engine.aborted == 1
    await eventually(lambda: web.http.running.tasks == set())
    assert web.running.front.inference.tracker.count == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_before_its_first_token(web: Any, eventually: Eventually, stream: bool) -> None:
    web.engine.go.clear()
    body = {**ENDLESS, "prompt": ["hi", "there"], "stream": stream}
    asked = asyncio.create_task(web.raw.post("/v1/completions", json=body))
    await eventually(lambda: len(web.engine.jobs) == 2)
    asked.cancel()
    await asyncio.wait({asked})
    await eventually(lambda: web.engine.jobs == [])
    assert web.engine.aborted == 2


async def test_a_client_that_goes_before_admission(web: Any, eventually: Eventually) -> None:
    web.engine.admit.clear()
    asked = asyncio.create_task(web.raw.post("/v1/completions", json=ENDLESS))
    await eventually(lambda: len(web.engine.jobs) == 1)
    asked.cancel()
    await asyncio.wait({asked})
    await eventually(lambda: web.engine.jobs == [])


async def test_a_client_that_goes_while_it_sends(web: Any, eventually: Eventually) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.http.port)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    )
    await eventually(lambda: len(web.http.running.tasks) == 1)
    writer.close()
    await eventually(lambda: web.http.running.tasks == set())
    assert web.engine.seen == []
    del reader


async def test_a_slow_reader_holds_nothing_up_and_gets_everything(
    run_web: Any, fake_engine: Any, eventually: Eventually
) -> None:
    engine = fake_engine()
    engine.describe(max_model_len=1_000_000)
    tokens = 100_000
    async with run_web(engine) as web:
        body = json.dumps({"prompt": "hi", "max_tokens": tokens, "stream": True}).encode()
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", web.http.port))
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
        await loop.sock_sendall(raw, head + b"content-length: %d\r\n\r\n" % len(body) + body)
        await eventually(lambda: bool(engine.jobs) and engine.jobs[0].made == tokens)
        before = engine.outputs
        assert before < tokens / 5, "the reader has read nothing: the server must have stopped writing"
        assert (await web.openai.completions.create(model="", prompt="hi", max_tokens=2)).choices[0].text == "ab"
        data = bytearray()
        while chunk := await loop.sock_recv(raw, 1 << 20):
            data += chunk
        raw.close()
        lines = [line for line in data.split(b"\r\n") if line.startswith(b"data: {")]
        texts = [json.loads(line[6:])["choices"][0]["text"] for line in lines]
        assert sum(map(len, texts)) == tokens
        assert len(texts) < tokens / 5
        assert b"data: [DONE]" in data


async def test_a_slow_reader_that_goes_frees(run_web: Any, fake_engine: Any, eventually: Eventually) -> None:
    engine = fake_engine()
    engine.describe(max_model_len=10_000_000)
    async with run_web(engine) as web:
        async with web.raw.stream("POST", "/v1/completions", json={**ENDLESS, "max_tokens": 9_000_000}):
            await eventually(lambda: bool(engine.jobs) and engine.jobs[0].made > 50_000)
        await eventually(lambda: engine.jobs == [])


async def test_a_timeout_of_the_request_is_its_deadline(web: Any, eventually: Eventually) -> None:
    web.engine.go.clear()
    response = await web.raw.post("/v1/completions", json={"prompt": "hi"}, headers={"x-lepton-timeout": "0.05"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    await eventually(lambda: web.engine.jobs == [])


async def test_an_error_behind_the_beginning_of_a_stream_is_its_last_event(web: Any) -> None:
    web.engine.go.clear()
    async with web.raw.stream("POST", "/v1/completions", json=ENDLESS) as response:
        assert response.status_code == 200
        web.engine.failure = DeadlineExceededError("the deadline has passed")
        web.engine.go.set()
        lines = [line async for line in response.aiter_lines() if line]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    assert "data: [DONE]" not in lines


async def test_the_refusal_of_one_prompt_is_the_status_of_all(web: Any, eventually: Eventually) -> None:
    body = {"prompt": ["hi", "a" * 5000], "max_tokens": 4000, "stream": True}
    response = await web.raw.post("/v1/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
    await eventually(lambda: web.engine.jobs == [])


async def test_streams_are_bounded_by_the_servers_longest(run_web: Any) -> None:
    async with run_web(max_stream_seconds=7.0) as web:
        await web.raw.post("/v1/completions", json={"prompt": "hi"})
        assert web.engine.seen[0].options["time_limit"] == 7.0


async def test_request_ids_and_trace_context_pass_through(web: Any) -> None:
    headers = {"x-request-id": "mine-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    response = await web.raw.post("/v1/completions", json={"prompt": "hi"}, headers=headers)
    assert response.headers["x-request-id"] == "mine-1"
    assert response.json()["id"] == "cmpl-mine-1"
    assert web.engine.seen[0].options["request_id"] == "mine-1"
    response = await web.raw.post("/v1/completions", json={"prompt": ["a", "b"]}, headers=headers)
    assert [job.options["request_id"] for job in web.engine.seen[1:]] == ["mine-1", "mine-1-1"]


async def test_two_requests_of_one_id_at_once(web: Any, eventually: Eventually) -> None:
    web.engine.go.clear()
    headers = {"x-request-id": "same"}
    first = asyncio.create_task(web.raw.post("/v1/completions", json={"prompt": "hi"}, headers=headers))
    await eventually(lambda: len(web.engine.jobs) == 1)
    second = await web.raw.post("/v1/completions", json={"prompt": "hi"}, headers=headers)
    assert (second.status_code, second.json()["error"]["code"]) == (409, "request_id_in_use")
    web.engine.go.set()
    assert (await first).status_code == 200


async def test_silence_is_filled_with_comments(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lepton_service.http import endpoint

    monkeypatch.setattr(endpoint, "KEEP_ALIVE_SECONDS", 0.01)
    web.engine.go.clear()
    async with web.raw.stream("POST", "/v1/completions", json={**ENDLESS, "max_tokens": 1}) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == ": still there"
        web.engine.go.set()
        rest = [line async for line in lines if line.startswith("data")]
    assert rest[-1] == "data: [DONE]"


async def test_a_drain_takes_requests_then_lets_the_running_end(run_web: Any, eventually: Eventually) -> None:
    async with run_web(drain_propagation=1000.0) as web:
        web.running.front.stop.signal()
        await eventually(lambda: web.running.front.state.draining)
        response = await web.raw.post("/v1/completions", json={"prompt": "hi", "max_tokens": 2})
        assert (response.status_code, response.headers["connection"]) == (200, "close")
        health = await web.raw.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "draining"})
    async with run_web() as web:
        web.engine.go.clear()
        figures = web.raw.stream("GET", "/playground/stats")
        watched = await figures.__aenter__()
        async with web.raw.stream("POST", "/v1/completions", json={**ENDLESS, "max_tokens": 3}) as response:
            web.running.front.stop.signal()
            await eventually(lambda: web.http._closing.is_set())
            await refuses_connections(web.http.port)
            assert not web.engine.ended
            web.engine.go.set()
            assert "".join(event["choices"][0]["text"] for event in await events(response)) == "abc"
        assert (await events(watched))[-1]["draining"]
        await figures.__aexit__(None, None, None)
        assert await web.running.life == EXIT_OK


async def test_a_drain_that_is_cut_short_tells_the_clients(run_web: Any, eventually: Eventually) -> None:
    async with run_web(drain_timeout=1000.0) as web:
        web.engine.go.clear()
        unary = asyncio.create_task(web.raw.post("/v1/completions", json={"prompt": "hi"}))
        await eventually(lambda: len(web.engine.jobs) == 1)
        async with web.raw.stream("POST", "/v1/completions", json=ENDLESS) as response:
            web.running.front.stop.signal()
            await eventually(lambda: web.http._closing.is_set())
            web.running.front.stop.signal()
            assert (await events(response))[-1]["error"]["code"] == "server_ends"
        answer = await unary
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_ends")
        assert await web.running.life == EXIT_CUT_SHORT
        assert web.engine.jobs == []
