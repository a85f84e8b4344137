"""Telemetry of the real command: two front ends with one page, logs that hold no text."""

import json
import signal
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from lepton_service.client import LeptonClient
from tests.service.e2e.serving import start

SECRET = "zanzibar clockwork"
REQUESTS = 12


def counted(url: str, name: str) -> float:
    text = urllib.request.urlopen(url).read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def test_one_page_for_all_front_ends_and_logs_without_text(tiny: Path) -> None:
    server = start(
        tiny, "--frontends", "2", "--metrics-port", "0", "--log-format", "json", "--log-level", "debug",
        "--http-port", "0",
    )  # fmt: skip
    server.ready()
    server.wait_for(r"front end (\d+) serves")
    url = f"http://{server.wait_for(r'metrics on ([0-9.:]+)')}/metrics"
    outputs = []
    for _ in range(REQUESTS):  # each on a connection of its own, which the kernel gives to either
        with LeptonClient(server.target) as client:
            answer = client.complete(SECRET, max_tokens=8, ignore_eos=True)
            outputs.append(answer.choices[0].text)
    body = json.dumps({"model": server.ready(), "prompt": SECRET, "max_tokens": 4}).encode()
    web = server.wait_for(r"http on ([0-9.:]+)")
    post = urllib.request.Request(f"http://{web}/v1/completions", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(post).read()
    while counted(url, "lepton_requests_total") < REQUESTS + 1:
        pass
    assert counted(url, "gen_ai_server_time_to_first_token_seconds_count") == REQUESTS + 1
    assert counted(url, "lepton_engine_ended_requests_total") == REQUESTS + 1
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0, server.log
    lines = [json.loads(line) for line in server.log.splitlines()]
    calls = [line for line in lines if line["logger"] == "lepton.access" and "GenerationService" in line["method"]]
    assert len(calls) == REQUESTS + 1
    for call in calls:
        assert call["code"] == "OK"
        assert call["prompt_tokens"] > 0
        assert call["generated_tokens"] in (4, 8)
        assert call["finish_reason"] == "length"
    assert SECRET not in server.log
    assert "zanzibar" not in server.log
    escaped = [json.dumps(text)[1:-1] for text in outputs if len(text) > 5]
    assert not [text for text in escaped if text in server.log]
