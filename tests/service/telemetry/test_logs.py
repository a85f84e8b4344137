"""Access logs: their fields, as text and as JSON."""

import json
import logging
from types import SimpleNamespace

import pytest

from lepton_engine.logs import Fields, JSONFormatter
from lepton_engine.outputs import RequestMetrics
from lepton_service.calls import Call
from lepton_service.interceptors.access_log import FIELDS, line
from lepton_service.interceptors.outcome import outcome


def full() -> Fields:
    call = Call("/m", "ipv4:1.2.3.4:5", request_id="r", tenant='an "odd"\nname', trace_id="abc")
    call.prompt_tokens, call.cached_tokens, call.generated_tokens = 4, 0, 7
    call.finish_reasons = {1: "stop", 0: "length"}
    call.metrics = RequestMetrics(1.0, 1.002, 1.01, 2.0, (1.5,), 0.123456)
    return line(call, "OK", 1.5)


def test_a_line_has_every_field_in_order() -> None:
    assert list(full().values) == list(FIELDS)
    assert full().values["finish_reason"] == "length,stop"
    assert full().values["queue_ms"] == 2.0
    assert full().values["joules"] == 0.1235


def test_what_there_is_nothing_to_say_of_is_left_out() -> None:
    assert str(line(Call("/m", "unix:"), "OK", 0.001)) == "method=/m code=OK ms=1.0 peer=unix:"


def test_text_stays_one_line_whatever_a_tenant_is_called() -> None:
    text = str(full())
    assert "\n" not in text
    assert r'tenant="an \"odd\"\nname"' in text


def test_json_is_one_object_a_line() -> None:
    record = logging.LogRecord("lepton.access", logging.INFO, "", 0, full(), None, None)
    text = JSONFormatter().format(record)
    assert "\n" not in text
    found = json.loads(text)
    assert found["message"] == "call"
    assert found["logger"] == "lepton.access"
    assert found["ms"] == 1500.0
    assert found["tenant"] == 'an "odd"\nname'


def test_json_of_an_error_has_its_traceback() -> None:
    try:
        raise ValueError("x")
    except ValueError as error:
        given = (ValueError, error, error.__traceback__)
        record = logging.LogRecord("a", logging.ERROR, "", 0, "failed: %s", ("why",), given)
    found = json.loads(JSONFormatter().format(record))
    assert found["message"] == "failed: why"
    assert "ValueError: x" in found["exception"]


@pytest.mark.parametrize(
    ("remaining", "expected"), [(None, "CANCELLED"), (1.0, "CANCELLED"), (0.0, "DEADLINE_EXCEEDED")]
)
def test_a_passed_deadline_is_no_cancellation(remaining: float | None, expected: str) -> None:
    assert outcome(SimpleNamespace(time_remaining=lambda: remaining), cancelled=True) == expected
