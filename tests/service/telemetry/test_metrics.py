"""The metrics page, and what calls leave there."""

import asyncio
import contextlib
import re
import socket
import urllib.error
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lepton_engine.errors import EngineDeadError, QueueFullError
from lepton_engine.messages import EngineStats
from lepton_service.auth.options import AuthOptions
from lepton_service.auth.tokens import TokenEntry, digest
from lepton_service.client import AsyncLeptonClient, LeptonClientError
from lepton_service.server import PortInUseError
from lepton_service.telemetry import names
from lepton_service.telemetry.figures import Carried, of_engine
from lepton_service.telemetry.record import CallRecord
from tests.service.telemetry.conftest import Observe, Observed


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Values of a page by name and labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), f"{sample.name} twice"
            found[sample.name][labels] = sample.value
    return found


def total(text: str, name: str, **labels: str) -> float:
    """Sum over the series that have these labels."""
    wanted = set(labels.items())
    return sum(value for key, value in samples(text).get(name, {}).items() if wanted <= set(key))


async def ask(client: AsyncLeptonClient, count: int = 1, **options: Any) -> None:
    for _ in range(count):
        async with client.generate("hello", max_tokens=5, **options) as stream:
            async for _ in stream:
                pass


def check_format(text: str) -> None:
    """The rules of `promtool check metrics` that a server can break."""
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        if family.type == "counter":
            assert {sample.name.rpartition("_")[2] for sample in family.samples} <= {"total", "created"}
        elif family.type == "gauge":
            assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        elif family.type == "histogram":
            check_histogram(family)


def check_histogram(family: Any) -> None:
    series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
    counts: dict[frozenset[tuple[str, str]], float] = {}
    for sample in family.samples:
        key = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[key] = sample.value
    for key, buckets in series.items():
        assert buckets == sorted(buckets), family.name
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1] == (float("inf"), counts[key])


async def test_calls_leave_what_the_table_of_metrics_says(observe: Observe) -> None:
    async with observe(metrics_port=0) as observed:
        await ask(observed.client, 3)
        await observed.client.complete("hello", max_tokens=2, request_id="request-1")
        text = await observed.page()
    check_format(text)
    found = samples(text)
    assert total(text, "lepton_requests_total", rpc_response_status_code="OK") == 4
    assert total(text, "lepton_choices_total", lepton_finish_reason="length") == 4
    assert total(text, "gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 17
    assert total(text, "gen_ai_server_time_to_first_token_seconds_count") == 4
    assert total(text, "gen_ai_server_time_per_output_token_seconds_count") == 4
    method = "lepton.v1.GenerationService/Generate"
    assert total(text, "rpc_server_call_duration_seconds_count", rpc_method=method) == 3
    for metric in names.METRICS:
        shown = metric.prometheus + ("_count" if metric.kind == names.HISTOGRAM else "")
        if metric is not names.REQUEST_ENERGY:
            assert shown in found, shown
    allowed = {metric.prometheus: {name.replace(".", "_") for name in metric.attributes} for metric in names.METRICS}
    for name, series in found.items():
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        if base in allowed:
            assert {label for labels in series for label, _ in labels} <= allowed[base] | {"le"}, name
    assert "request-1" not in text


async def test_refused_cancelled_and_late_calls_are_told_apart(observe: Observe, eventually: Any) -> None:
    async with observe(metrics_port=0) as observed:
        observed.engine.refusal = QueueFullError("full")
        with pytest.raises(LeptonClientError):
            await ask(observed.client)
        observed.engine.refusal = None
        observed.engine.go.clear()
        stream = observed.client.generate("hello")
        await stream.admitted()
        stream.cancel()
        with pytest.raises(LeptonClientError):
            await observed.client.complete("hello", deadline=0.05)
        tracker = observed.front.inference.tracker
        await eventually(lambda: tracker.count == 0)
        text = await observed.page()
    for code in ("RESOURCE_EXHAUSTED", "CANCELLED", "DEADLINE_EXCEEDED"):
        assert total(text, "lepton_requests_total", rpc_response_status_code=code) == 1, code
        assert total(text, "gen_ai_server_request_duration_seconds_count", error_type=code) == 1
    assert total(text, "gen_ai_server_time_to_first_token_seconds_count") == 0
    # Only what is the server's fault is an error of the call.
    assert total(text, "rpc_server_call_duration_seconds_count", error_type="DEADLINE_EXCEEDED") == 1
    assert total(text, "rpc_server_call_duration_seconds_count", error_type="CANCELLED") == 0


async def test_what_clients_send_becomes_no_label(observe: Observe) -> None:
    async with observe(metrics_port=0) as observed:
        target = f"127.0.0.1:{observed.front.inference.port}"
        async with AsyncLeptonClient(target, metadata=[("x-lepton-tenant", "somebody")], retry=False) as client:
            await ask(client)
            with pytest.raises(LeptonClientError):
                await ask(client, model="made-up-model")
        text = await observed.page()
    assert "somebody" not in text
    assert "made-up-model" not in text


async def test_methods_that_nobody_has_become_no_label(observe: Observe, tmp_path: Path) -> None:
    token, served = "token-of-acme", "lepton.v1.ModelService/GetModel"
    (tmp_path / "tokens").write_text(TokenEntry("ci", "acme", digest(token)).line())
    async with observe(metrics_port=0, auth=AuthOptions(tokens=tmp_path / "tokens")) as observed:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{observed.front.inference.port}") as channel:
            for path in ("/made.up/Method", "/lepton.v1.GenerationService/MadeUp", f"/{served}"):
                method: Any = channel.unary_unary(path)
                for metadata in ((), (("authorization", f"Bearer {token}"),)):
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await method(b"", metadata=metadata, timeout=30)
        text = await observed.page()
    assert "made.up" not in text
    assert "MadeUp" not in text
    calls = "rpc_server_call_duration_seconds_count"
    for code in ("UNAUTHENTICATED", "OK"):
        assert total(text, calls, rpc_method=served, rpc_response_status_code=code) == 1


async def test_named_tenants_are_told_apart_the_rest_is_other(observe: Observe) -> None:
    async with observe(metrics_port=0, tenants=("gold",)) as observed:
        target = f"127.0.0.1:{observed.front.inference.port}"
        for tenant in ("gold", "a", "b"):
            async with AsyncLeptonClient(target, metadata=[("x-lepton-tenant", tenant)]) as client:
                await ask(client)
        text = await observed.page()
    assert total(text, "lepton_requests_total", lepton_tenant="gold") == 1
    assert total(text, "lepton_requests_total", lepton_tenant="other") == 2


async def test_an_engine_that_does_not_answer_leaves_the_page(observe: Observe) -> None:
    async with observe(metrics_port=0) as observed:
        assert "lepton_engine_running " in await observed.page()
        observed.engine.dead = EngineDeadError("gone")
        text = await observed.page()
        while "lepton_engine_running " in text:  # figures are told again for a while
            text = await observed.page()
    check_format(text)
    assert "lepton_engine_running " not in text
    assert total(text, "lepton_engine_ended_requests_total", lepton_outcome="finished") == 0


async def test_the_page_is_at_its_path_only(observe: Observe) -> None:
    async with observe(metrics_port=0) as observed:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            await observed.page("/")


async def test_the_port_is_told_and_given_back(observe: Observe, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with observe(metrics_port=0) as observed:
        port = observed.telemetry.page.port
        assert f"metrics on 127.0.0.1:{port}" in caplog.text
        assert await observed.end() == 0
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


async def test_a_port_in_use_is_an_error(observe: Observe) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUseError, match="for metrics"):
            async with observe(metrics_port=taken.getsockname()[1]):
                pass


async def test_calls_of_further_front_ends_are_on_the_first_ones_page(observe: Observe) -> None:
    async with observe(metrics_port=0) as first, observe(index=1, metrics_port=0) as second:
        assert second.telemetry.page is None
        await ask(first.client, 2)
        await ask(second.client, 3)
        assert await second.end() == 0
        text = await until(first, 5)
    assert total(text, "gen_ai_server_request_duration_seconds_count") == 5


async def until(observed: Observed, requests: int) -> str:
    text = await observed.page()
    while total(text, "lepton_requests_total") < requests:
        await asyncio.sleep(0.02)
        text = await observed.page()
    return text


async def test_a_front_end_whose_first_one_has_gone_goes_on(observe: Observe) -> None:
    async with observe(metrics_port=0) as first, observe(index=1, metrics_port=0) as second:
        await first.end()
        await ask(second.client, 3)
        assert await second.end() == 0


async def test_metrics_are_sent_by_otlp(observe: Observe, collector: Any) -> None:
    async with observe(endpoint=collector.endpoint, metrics=True) as observed:
        await ask(observed.client)
        assert await observed.end() == 0
    sent = {metric.name for metric in collector.metrics}
    assert {metric.name for metric in names.METRICS} - sent == {"lepton.request.energy"}


def stats(uptime: float, **figures: float) -> EngineStats:
    zero: dict[str, Any] = dict.fromkeys(EngineStats.__struct_fields__, 0)
    zero |= {"energy_joules": None, "attributed_joules": None, "energy_source": ""}
    return EngineStats(**{**zero, "uptime": uptime, **figures})


def test_counters_go_on_over_restarts_gauges_do_not() -> None:
    carried = Carried(frozenset({"lepton.engine.steps"}))
    for uptime, steps, told in ((1.0, 5, 5), (2.0, 7, 7), (0.5, 1, 8), (9.0, 3, 10), (0.1, 0, 10)):
        figures = carried.take(of_engine(stats(uptime, num_steps=steps, num_running=2)), uptime)
        assert figures["lepton.engine.steps"] == {(): told}
        assert figures["lepton.engine.running"] == {(): 2}
    assert carried.rest() == {"lepton.engine.steps": {(): 10}}


def test_energy_is_absent_where_it_is_not_measured() -> None:
    assert not [name for name in of_engine(stats(1.0)) if "energy" in name]
    told = of_engine(
        msgspec.structs.replace(stats(1.0), energy_joules=2.5, attributed_joules=1.5, energy_source="rapl")
    )
    assert told["lepton.energy"] == {(("lepton.source", "rapl"),): 2.5}
    assert told["lepton.energy.requests"] == {(("lepton.source", "rapl"),): 1.5}


@pytest.mark.parametrize(
    ("tokens", "choices", "decode", "expected"),
    [(11, 1, 1.0, 0.1), (22, 2, 1.0, 0.1), (1, 1, 0.0, None), (2, 2, 1.0, None), (5, 1, None, None)],
)
def test_time_per_token(tokens: int, choices: int, decode: float | None, expected: float | None) -> None:
    record = CallRecord("m", "OK", 1.0, generated_tokens=tokens, choices=choices, decode=decode)
    assert record.per_token == (None if expected is None else pytest.approx(expected))
