"""Requests that are refused: the error names the field, and nothing reaches the engine."""

import json
from typing import Any

from lepton_engine.errors import EngineDeadError

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
DEEP: Any = "hi"
for _ in range(200):
    DEEP = {"a": DEEP}


def user(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi", **fields}]}


CHAT: list[tuple[dict[str, Any], str | None, str]] = [
    # What is sent, the field at fault, what the message says.
    ({}, "body", "missing required field messages"),
    ({"messages": []}, "messages", "at least one message"),
    ({"messages": "hi"}, "messages", '"hi": expected array, got str'),
    ({"messages": [{"content": "hi"}]}, "messages[0]", "missing required field role"),
    ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role", "'robot' is not one of system"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
    (user(content=[{"type": "image_url", "text": ""}]), "messages[0].content[0].type", '"image_url": invalid enum'),
    (user(content=[{"type": "text", "image_url": 1}]), "messages[0].content[0].image_url", "not a field"),
    (user(content=[{"type": "text"}]), "messages[0].content[0]", "missing required field text"),
    (user(tool_call_id="x"), "messages[0].tool_call_id", "allowed on ROLE_TOOL only"),
    (user(mood="good"), "messages[0].mood", "not a field"),
    (user(audio={"id": "x"}), "messages[0].audio", "not supported"),
    ({**HELLO, "max_completion_tokens": 0}, "max_completion_tokens", "0"),
    ({**HELLO, "max_tokens": 0}, "max_tokens", "0"),
    ({**HELLO, "max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens", "differs from max_tokens = 1"),
    ({**HELLO, "max_tokens": 1.5}, "max_tokens", "1.5: expected int | null, got float"),
    ({**HELLO, "max_tokens": 2**40}, "max_tokens", "1099511627776: expected int <= 2147483647"),
    ({**HELLO, "temperature": -1}, "temperature", "-1"),
    ({**HELLO, "temperature": "hot"}, "temperature", '"hot": expected float | null, got str'),
    ({**HELLO, "top_p": 1.5}, "top_p", "1.5"),
    ({**HELLO, "top_p": 0}, "top_p", "0"),
    ({**HELLO, "n": 0}, "n", "0"),
    ({**HELLO, "n": 100_000}, "n", "100000"),
    ({**HELLO, "seed": -1}, "seed", "-1: expected int >= 0"),
    ({**HELLO, "presence_penalty": 3}, "presence_penalty", "3"),
    ({**HELLO, "logit_bias": {"300": 1}}, "logit_bias[300]", "outside the model's vocabulary"),
    ({**HELLO, "logit_bias": {"5": 101}}, "logit_bias", "101"),
    ({**HELLO, "logit_bias": {"a": 1}}, "logit_bias", "expected int, got str"),
    ({**HELLO, "stop": [""]}, "stop", "empty"),
    ({**HELLO, "stop": 5}, "stop", "5: expected str | array | null, got int"),
    ({**HELLO, "stop_token_ids": [999]}, "stop_token_ids[0]", "999 is outside"),
    ({**HELLO, "top_logprobs": 2}, "top_logprobs", "without logprobs = true"),
    ({**HELLO, "logprobs": True, "top_logprobs": 1000}, "top_logprobs", "1000"),
    ({**HELLO, "logprobs": 3}, "logprobs", "3: expected bool | null, got int"),
    ({**HELLO, "stream_options": {"include_usage": True}}, "stream_options", "without stream = true"),
    ({**HELLO, "stream": True, "stream_options": {"x": 1}}, "stream_options.x", "not a field"),
    ({**HELLO, "priority": 1000}, "priority", "1000 is out of range"),
    ({**HELLO, "max_queue_time": -1}, "max_queue_time", "-1 s is not above 0"),
    ({**HELLO, "response_format": {"type": "yaml"}}, "response_format.type", '"yaml": invalid enum'),
    ({**HELLO, "response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
    (
        {**HELLO, "response_format": {"type": "text", "json_schema": {"name": "x"}}},
        "response_format.json_schema",
        'is set with type = "text"',
    ),
    (
        {**HELLO, "response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
        "response_format",
        "beside structured_outputs",
    ),
    ({**HELLO, "structured_outputs": {}}, "structured_outputs", "holds nothing, exactly one"),
    (
        {**HELLO, "structured_outputs": {"regex": "a", "choice": ["b"]}},
        "structured_outputs",
        "holds regex and choice, exactly one",
    ),
    ({**HELLO, "tool_choice": "maybe"}, "tool_choice", "'maybe' is not one of auto, none, required"),
    ({**HELLO, "tools": [{"type": "retrieval", "function": {"name": "f"}}]}, "tools[0].type", "invalid enum"),
    ({**HELLO, "tools": [{"type": "function"}]}, "tools[0]", "missing required field function"),
    ({**HELLO, "chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs", "set by the server"),
    ({**HELLO, "chat_template_kwargs": {"x": DEEP}}, "chat_template_kwargs", ""),
    ({**HELLO, "continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt", "excludes"),
    ({**HELLO, "model": "gpt-9"}, None, "model 'gpt-9' is not served here"),
    ({**HELLO, "temperatur": 1}, "temperatur", "not a field of this request"),
]
UNSUPPORTED = {
    "audio": {},
    "function_call": "auto",
    "functions": [],
    "metadata": {},
    "modalities": ["audio"],
    "moderation": {},
    "parallel_tool_calls": False,
    "prediction": {},
    "prompt_cache_key": "k",
    "prompt_cache_options": {},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "safety_identifier": "x",
    "service_tier": "flex",
    "store": True,
    "user": "me",
    "verbosity": "low",
    "web_search_options": {},
}
COMPLETION: list[tuple[dict[str, Any], str | None, str]] = [
    ({}, "body", "missing required field prompt"),
    ({"prompt": ""}, "prompt", "is empty"),
    ({"prompt": []}, "prompt", "at least one prompt"),
    ({"prompt": [[]]}, "prompt", "gives no tokens"),
    ({"prompt": ["a", 5]}, "prompt", "mixes token ids"),
    ({"prompt": [300]}, "prompt[0]", "300 is outside"),
    ({"prompt": [-1]}, "prompt[0]", "-1: expected int >= 0"),
    ({"prompt": [1.5]}, "prompt[0]", "1.5"),
    ({"prompt": None}, "prompt", "null: expected str | array, got null"),
    ({"prompt": ["a"] * 129}, "prompt", "allowed are 128"),
    ({"prompt": "a" * 5000}, "prompt", "at most 4095 fit"),
    ({"prompt": "a", "logprobs": -1}, "logprobs", "-1"),
    ({"prompt": "a", "best_of": 3}, "best_of", "differs from n"),
    ({"prompt": "a", "echo": True}, "echo", "not supported"),
    ({"prompt": "a", "suffix": "b"}, "suffix", "not supported"),
    ({"prompt": [5], "add_special_tokens": True}, "add_special_tokens", ""),
    ({"prompt": "a", "messages": []}, "messages", "not a field"),
    ({"prompt": "a", "min_tokens": 5, "max_tokens": 2}, "min_tokens", "5"),
]


async def refused(web: Any, path: str, body: Any, status: int = 400, extra: Any = ()) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **dict(extra)}
    response = await web.raw.post(path, content=content, headers=headers)
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert web.engine.seen == []
    return error


async def test_chats_that_are_refused(web: Any) -> None:
    for body, param, message in CHAT:
        error = await refused(web, "/v1/chat/completions", body, 404 if body.get("model") else 400)
        assert (error["param"], message in error["message"]) == (param, True), error


async def test_completions_that_are_refused(web: Any) -> None:
    for body, param, message in COMPLETION:
        error = await refused(web, "/v1/completions", body)
        assert (error["param"], message in error["message"]) == (param, True), error


async def test_fields_of_openais_that_are_not_supported(web: Any) -> None:
    for name, value in UNSUPPORTED.items():
        error = await refused(web, "/v1/chat/completions", {**HELLO, name: value})
        assert (error["param"], error["code"]) == (name, "unsupported_field")


async def test_fields_that_ask_for_nothing_pass(web: Any) -> None:
    neutral = {
        "user": None,
        "store": False,
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "modalities": ["text"],
        "metadata": None,
        "tools": [],
        "stop": None,
        "response_format": {"type": "text"},
        "tool_choice": "auto",
    }
    response = await web.raw.post("/v1/chat/completions", json={**HELLO, "max_tokens": 1, **neutral})
    assert response.status_code == 200, response.text
    response = await web.raw.post("/v1/completions", json={"prompt": "a", "echo": False, "suffix": "", "best_of": 1})
    assert response.status_code == 200, response.text


async def test_bodies_that_are_not_json(web: Any) -> None:
    for body in (b"", b"{", b"hello", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"[" * 100_000):
        for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings"):
            if b"prompt" in body and path != "/v1/completions":
                continue
            error = await refused(web, path, body)
            assert error["code"] in ("invalid_json", "invalid_value"), error
            assert "JSON" in error["message"] or "expected object" in error["message"], error


async def test_json_that_is_no_object(web: Any) -> None:
    for body in (b"[]", b"5", b"null", b'"prompt"'):
        error = await refused(web, "/v1/completions", body)
        assert (error["param"], "expected object" in error["message"]) == ("body", True)


async def test_numbers_that_json_has_not(web: Any) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        await refused(web, "/v1/completions", b'{"prompt": "a", "temperature": ' + number.encode() + b"}")


async def test_a_body_that_is_not_said_to_be_json(web: Any) -> None:
    for kind in ("text/plain", "", "application/x-www-form-urlencoded"):
        error = await refused(web, "/v1/completions", {"prompt": "a"}, 415, extra={"content-type": kind})
        assert "application/json is required" in error["message"]
    await refused(web, "/v1/completions", {"prompt": "a"}, 415, extra={"content-encoding": "gzip"})
    response = await web.raw.post(
        "/v1/completions", content=b'{"prompt": "a"}', headers={"content-type": "Application/JSON; charset=utf-8"}
    )
    assert response.status_code == 200


async def test_a_body_that_is_too_large(run_web: Any) -> None:
    async with run_web(max_request_bytes=1000) as web:
        error = await refused(web, "/v1/completions", {"prompt": "a" * 1000}, 413)
        assert error["code"] == "request_too_large"

        async def pieces() -> Any:
            for _ in range(20):
                yield b" " * 100

        response = await web.raw.post("/v1/completions", content=pieces(), headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert response.headers["connection"] == "close"


async def test_paths_and_methods_that_there_are_not(web: Any) -> None:
    response = await web.raw.get("/v1/unknown")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_path")
    for method, path in (("GET", "/v1/completions"), ("POST", "/v1/models"), ("DELETE", "/health")):
        response = await web.raw.request(method, path)
        assert (response.status_code, response.json()["error"]["code"]) == (405, "unknown_method")
        assert response.headers["allow"]


async def test_a_request_id_that_cannot_be_one(web: Any) -> None:
    error = await refused(web, "/v1/completions", {"prompt": "a"}, extra={"x-request-id": "a b"})
    assert error["param"] == "request_id"


async def test_timeouts_that_are_none(web: Any) -> None:
    for timeout in ("soon", "0", "-1", "nan", "inf"):
        error = await refused(web, "/v1/completions", {"prompt": "a"}, extra={"x-lepton-timeout": timeout})
        assert "seconds above 0" in error["message"]


async def test_an_engine_that_has_ended(web: Any) -> None:
    web.engine.refusal = EngineDeadError("the engine has ended")
    for body in ({"prompt": "a"}, {"prompt": "a", "stream": True}):
        response = await web.raw.post("/v1/completions", json=body)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1


async def test_a_model_that_still_loads(run_web: Any, fake_engine: Any) -> None:
    engine = fake_engine()
    engine.loaded.clear()
    async with run_web(engine, ready=False) as web:
        response = await web.raw.post("/v1/completions", json={"prompt": "a"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "model_loading")
        assert response.headers["retry-after"] == "1"
        assert (await web.raw.get("/health")).status_code == 503
        assert (await web.raw.get("/v1/models")).json()["data"][0]["state"] == "loading"
