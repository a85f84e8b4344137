"""Statuses of calls in HTTP's terms, and the fields of the contract in JSON's."""

import pytest
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from lepton_engine.errors import (
    DeadlineExceededError,
    DeadlineUnattainableError,
    EngineDeadError,
    InvalidRequestError,
    LeptonError,
    QueueFullError,
    RequestFailedError,
    TenantTokenRateError,
)
from lepton_service import errors
from lepton_service.converters.errors import to_status
from lepton_service.http.errors import HTTPError, from_status, json_field
from lepton_service.http.generation import COMPLETE, GENERATE

CASES: list[tuple[Exception, int, str]] = [
    (errors.InvalidFieldError("sampling.top_p", "2 is out of range"), 400, "invalid_field"),
    (errors.UnsupportedFieldError("chat.tools", "not built yet"), 400, "unsupported_field"),
    (errors.ContextLengthError("text", "gives 9 tokens"), 400, "context_length_exceeded"),
    (errors.ChatTemplateError("chat.messages", "no system here"), 400, "chat_template_failed"),
    (errors.NoChatTemplateError("no template"), 400, "no_chat_template"),
    (errors.ResourceNotFoundError("model", "m", "no model m"), 404, "model_not_found"),
    (errors.RequestIdInUseError("in flight"), 409, "request_id_in_use"),
    (errors.ModelLoadingError("loading"), 503, "model_loading"),
    (errors.EngineUnavailableError("ended"), 503, "engine_unavailable"),
    (QueueFullError("full", 0.5), 429, "queue_full"),
    (TenantTokenRateError("used up", 12.0), 429, "tenant_token_rate_exceeded"),
    (DeadlineUnattainableError("too slow", 3.0), 429, "deadline_unattainable"),
    (DeadlineExceededError("too late"), 504, "deadline_exceeded"),
    (EngineDeadError("dead"), 503, "engine_unavailable"),
    (InvalidRequestError("sampling_params.top_k", "bad"), 400, "invalid_field"),
    (RequestFailedError("NaN"), 500, "request_failed"),
    (LeptonError("what?"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda value: type(value).__name__)
def test_statuses(error: Exception, status: int, code: str) -> None:
    found = from_status(to_status(error), json_field)
    assert (found.status, found.code) == (status, code)
    assert (found.retry_after is not None) == (status in (429, 503))


def test_every_code_of_grpc_has_a_status() -> None:
    for code in StatusCode:
        found = from_status(Status(code=code.value[0], message="m"))
        assert 400 <= found.status < 600


def test_the_field_is_named_as_the_client_wrote_it() -> None:
    found = from_status(to_status(errors.InvalidFieldError("sampling.top_p", "2 is out of range")), json_field)
    assert (found.param, found.message) == ("top_p", "top_p: 2 is out of range")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("sampling.logit_bias[5]", "logit_bias[5]"),
        ("stop.strings[1]", "stop[1]"),
        ("stop.max_tokens", "max_tokens"),
        ("stop.token_ids[0]", "stop_token_ids[0]"),
        ("stop.include_in_output", "include_stop_str_in_output"),
        ("output.logprobs", "logprobs"),
        ("text", "prompt"),
        ("token_ids.ids[3]", "prompt[3]"),
        ("chat", "messages"),
        ("chat.messages[2].content[0]", "messages[2].content[0]"),
        ("chat.messages[0].reasoning_text", "messages[0].reasoning_content"),
        ("chat.messages[2].tool_calls[0].arguments_json", "messages[2].tool_calls[0].function.arguments"),
        ("chat.tools[1].name", "tools[1].function.name"),
        ("chat.tools[1].parameters_json_schema", "tools[1].function.parameters"),
        ("chat.tool_choice.name", "tool_choice"),
        ("chat.template_arguments", "chat_template_kwargs"),
        ("model", "model"),
        ("priority", "priority"),
    ],
)
def test_paths(path: str, field: str) -> None:
    assert json_field(path) == field


def test_retry_after_is_whole_seconds_and_exact_beside() -> None:
    found = HTTPError(429, "full", retry_after=0.25)
    assert (found.headers()["retry-after"], found.headers()["retry-after-ms"]) == ("1", "250")
    unattainable = from_status(to_status(DeadlineUnattainableError("too slow")))
    assert (unattainable.headers().get("retry-after"), unattainable.headers()["x-should-retry"]) == (None, "false")
    assert HTTPError(401, "who?").headers()["www-authenticate"] == "Bearer"


def test_the_methods_called_are_of_the_contract() -> None:
    from lepton.v1 import generation_pb2

    service = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]
    assert {COMPLETE, GENERATE} <= {f"/{service.full_name}/{method.name}" for method in service.methods}
