"""Load reports in trailers: decoded by the original message, on calls that succeed and on those that are refused."""

import base64
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from lepton.v1.model_pb2 import ListModelsRequest
from lepton_engine.errors import QueueFullError
from lepton_engine.messages import EngineStats
from lepton_service.client.requests import complete_request, generate_request, score_request
from lepton_service.interceptors.load_reports import LoadReports
from lepton_service.orca import TRAILER_KEY, load_report
from tests.service.orca_report import OrcaLoadReport
from tests.service.raw import RawCall


def stats(**figures: Any) -> EngineStats:
    zero = dict.fromkeys(EngineStats.__struct_fields__, 0)
    return EngineStats(**{**zero, "kv_blocks_total": 100, "max_num_seqs": 8, "mean_request_seconds": None, **figures})


def decoded(trailers: dict[str, str]) -> Any:
    value = trailers[TRAILER_KEY]
    return OrcaLoadReport.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))


def test_the_original_message_reads_what_is_written() -> None:
    figures = stats(num_running=3, num_waiting=1, waiting_tokens=70, kv_blocks_referenced=25, kv_blocks_free=75)
    report = OrcaLoadReport.FromString(load_report(figures, (4.0, 0.5)))
    assert (report.rps_fractional, report.eps, report.application_utilization) == (4.0, 0.5, 0.5)
    assert dict(report.utilization) == {"kv_cache": 0.25}
    assert dict(report.named_metrics) == {
        "running": 3.0,
        "waiting": 1.0,
        "waiting_tokens": 70.0,
        "kv_blocks_free": 75.0,
        "kv_blocks_referenced": 25.0,
        "generated_tokens_per_second": 0.0,
    }


def test_the_fuller_of_cache_and_sequences_is_the_utilisation() -> None:
    full = OrcaLoadReport.FromString(load_report(stats(num_running=1, kv_blocks_referenced=90)))
    assert full.application_utilization == 0.9
    nothing = OrcaLoadReport.FromString(load_report(stats(kv_blocks_total=0, max_num_seqs=0)))
    assert nothing.application_utilization == 0.0


async def trailers_of(running: Any, method: str, request: Any) -> dict[str, str]:
    """A call's trailers; gRPC's own client keeps load reports from its callers."""
    async with RawCall(running.target, f"/lepton.v1.{method}", request.SerializeToString()) as call:
        return await call.end()


async def test_answers_streams_and_refusals_carry_it_and_other_methods_do_not(running: Any) -> None:
    await running.client.complete("hi", max_tokens=1)
    running.engine.go.clear()
    held = running.client.generate("hello", max_tokens=1)
    await held.admitted()
    while True:  # The report is half a second old at most; calls renew it.
        refused = await trailers_of(running, "GenerationService/Complete", complete_request("", model="other"))
        assert refused["grpc-status"] == str(grpc.StatusCode.NOT_FOUND.value[0])
        if decoded(refused).named_metrics["running"] == 1:
            break
    running.engine.go.set()
    assert [event.WhichOneof("event") async for event in held][-1] == "finished"
    for method, request in (
        ("GenerationService/Complete", complete_request("hi", max_tokens=1)),
        ("GenerationService/Generate", generate_request("hi", max_tokens=1)),
        ("ScoringService/Score", score_request("hi")),
    ):
        trailers = await trailers_of(running, method, request)
        assert trailers["grpc-status"] == "0"
        assert "kv_blocks_free" in decoded(trailers).named_metrics
    running.engine.refusal = QueueFullError("full", retry_after=1.0)
    full = await trailers_of(running, "GenerationService/Complete", complete_request("hi", max_tokens=1))
    assert full["grpc-retry-pushback-ms"] == "1000"
    assert "grpc-status-details-bin" in full
    assert decoded(full)
    assert TRAILER_KEY not in await trailers_of(running, "ModelService/ListModels", ListModelsRequest())


async def test_rates_are_those_since_the_last_report_and_a_restart_begins_anew(eventually: Callable[..., Any]) -> None:
    given = [
        stats(num_finished=10, uptime=1.0),
        stats(num_finished=30, num_rejected=20, uptime=2.0),
        stats(uptime=0.5),
    ]

    async def ask() -> EngineStats:
        return given.pop(0)

    reports = LoadReports(ask, fresh=0.0)
    seen = []
    for left in (2, 1, 0):
        before = reports.report
        reports.renew()
        await eventually(lambda left=left, before=before: len(given) == left and reports.report is not before)
        assert reports.report is not None
        seen.append(OrcaLoadReport.FromString(reports.report))
    assert (seen[0].rps_fractional, seen[2].rps_fractional) == (0.0, 0.0)
    assert seen[1].rps_fractional == pytest.approx(2 * seen[1].eps)
    assert seen[1].eps > 0
