"""The pure functions between contract and engine, and that no message brings them to fail in a way of their own."""

import asyncio
import math
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton.v1.chat_pb2 import ChatPrompt
from lepton.v1.generation_pb2 import FinishReason, GenerateRequest
from lepton.v1.sampling_pb2 import OutputOptions
from lepton_engine.errors import LeptonError
from lepton_engine.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
from lepton_engine.sampling_params import OutputKind
from lepton_service import prompts
from lepton_service.commands import arguments
from lepton_service.commands.bench import span
from lepton_service.converters import chat, outputs, sampling
from lepton_service.converters.durations import seconds, to_duration, to_timestamp
from lepton_service.converters.fields import proto_path
from lepton_service.errors import EngineUnavailableError, ServiceError
from lepton_service.load_report import percentile, report, spread


@pytest.mark.parametrize(
    ("engine", "contract"),
    [
        ("sampling_params.top_p", "sampling.top_p"),
        ("sampling_params.stop", "stop.strings"),
        ("sampling_params.stop_token_ids[3]", "stop.token_ids[3]"),
        ("sampling_params.max_tokens", "stop.max_tokens"),
        ("sampling_params.logprobs", "output.logprobs"),
        ("sampling_params.detokenize", "output.return_text"),
        ("sampling_params.structured_outputs", "constraint"),
        ("prompt", "text"),
        ("prompt[4]", "text[4]"),
        ("messages[2].content", "chat.messages[2].content"),
        ("template_args", "chat.template_arguments"),
        ("chat_template", "chat"),
        ("priority", "priority"),
    ],
)
def test_engine_fields_have_a_path_in_the_contract(engine: str, contract: str) -> None:
    assert proto_path(engine, "text") == contract


@pytest.mark.parametrize("value", [0.0, 0.05, 1.5, 123456.789])
def test_durations_go_both_ways(value: float) -> None:
    assert seconds(to_duration(value)) == pytest.approx(value, abs=1e-6)


def test_a_clock_set_back_gives_no_negative_duration() -> None:
    assert to_duration(-1.0) == Duration()
    assert to_timestamp(1.25).nanos == 250_000_000


def test_alternatives_stand_by_rank_and_the_token_itself_has_its_own() -> None:
    row = {7: Logprob(-3.0, 9), 1: Logprob(-0.5, 1), 2: Logprob(-1.0, 2)}
    packed = outputs.packed_logprobs([7], [row], 2)
    assert (list(packed.logprobs), list(packed.ranks)) == ([-3.0], [9])
    assert (list(packed.top_token_ids), list(packed.top_logprobs)) == ([1, 2], [-0.5, -1.0])
    none = outputs.packed_logprobs([7], [row], 0)
    assert (none.top_per_token, len(none.top_token_ids)) == (0, 0)


def test_prompt_logprobs_are_cut_into_messages() -> None:
    rows: list[Any] = [None, *({token: Logprob(-float(token), 1)} for token in range(1, 6))]
    output = RequestOutput("id", None, list(range(6)), [], False, prompt_logprobs=rows)
    parts = list(outputs.prompt_logprobs(output, 0, per_message=2))
    assert [part.first_position for part in parts] == [1, 3, 5]
    assert [list(part.logprobs.logprobs) for part in parts] == [[-1.0, -2.0], [-3.0, -4.0], [-5.0]]
    assert list(outputs.prompt_logprobs(output, None)) == []


@pytest.mark.parametrize(
    ("reason", "stop", "kind"),
    [("stop", "x", "stop_string"), ("stop", 5, "stop_token_id"), ("stop", None, None), ("time_limit", None, None)],
)
def test_the_end_says_what_matched(reason: str, stop: int | str | None, kind: str | None) -> None:
    part = CompletionOutput(0, finish_reason=reason, stop_reason=stop)
    request = RequestOutput("id", None, [1], [part], True, metrics=RequestMetrics(10.0, 11.0, 12.5, 14.0))
    end = outputs.finished(part, request, 3)
    assert end.WhichOneof("matched_stop") == kind
    assert FinishReason.Name(end.reason) == f"FINISH_REASON_{reason.upper()}"
    times = end.timings
    assert [seconds(t) for t in (times.queue_time, times.time_to_first_token, times.decode_time, times.total_time)] == [
        1.0,
        2.5,
        1.5,
        4.0,
    ]


def test_a_request_that_the_engine_gave_up_is_an_error() -> None:
    part = CompletionOutput(0, finish_reason="abort")
    with pytest.raises(EngineUnavailableError):
        outputs.finished(part, RequestOutput("id", None, [1], [part], True), 0)


def test_nothing_new_is_no_delta() -> None:
    assert outputs.delta(CompletionOutput(0, "", [1]), False, None) is None
    assert outputs.delta(CompletionOutput(0, "", [1]), True, None) is not None
    assert outputs.wants_token_ids(OutputOptions())
    assert not outputs.wants_token_ids(OutputOptions(return_token_ids=False))


def test_template_arguments_keep_their_kinds() -> None:
    prompt = ChatPrompt()
    values: dict[str, Any] = {"a": 1, "b": 1.5, "c": [True, None, {"d": "x"}]}
    prompt.template_arguments.update(values)
    prompt.template_arguments.fields["nan"].number_value = math.nan
    found = chat.template_arguments(prompt)
    assert math.isnan(found.pop("nan"))
    assert found == values
    assert isinstance(found["a"], int)


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a message, as its constructor takes them: everything that the wire can hold, and often at the edges."""
    fields = {field.name: values(field, depth) for field in descriptor.fields if depth < 4 or not field.message_type}
    return st.fixed_dictionaries({}, optional=fields).map(lambda found: one_of_each(descriptor, found))


def one_of_each(descriptor: Descriptor, found: dict[str, Any]) -> dict[str, Any]:
    """Leaves one field of each oneof."""
    for oneof in descriptor.oneofs:
        for extra in [field.name for field in oneof.fields if field.name in found][1:]:
            del found[extra]
    return found


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kinds: dict[int, st.SearchStrategy[Any]] = {
        FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 5),
        FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 5),
        FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1) | st.integers(0, 300),
        FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats() | st.floats(0, 1),
        FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 7),
        FieldDescriptor.CPPTYPE_STRING: st.text(max_size=8) | st.sampled_from(["{}", "[1]", "{", "f"]),
    }
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct":
        return st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | st.floats() | st.text(max_size=4))
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (values(part, depth) for part in field.message_type.fields)
        return st.dictionaries(key, value, max_size=3)
    if field.message_type is not None:
        single: st.SearchStrategy[Any] = messages(field.message_type, depth + 1)
    else:
        single = kinds[field.cpp_type]
    return st.lists(single, max_size=3) if field.is_repeated else single


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(found=messages(GenerateRequest.DESCRIPTOR))
def test_whatever_the_wire_holds_is_taken_or_refused(found: dict[str, Any], fake_engine: Any) -> None:
    request = GenerateRequest.FromString(GenerateRequest(**found).SerializeToString())
    tokenizer = fake_engine().tokenizer
    kind = request.WhichOneof("prompt")
    special = request.add_special_tokens if request.HasField("add_special_tokens") else None
    checks: list[Any] = [
        lambda: sampling.sampling_params(request, OutputKind.DELTA, 256),
        lambda: sampling.coalescing(request.output),
        lambda: sampling.priority(request),
        lambda: sampling.time_limit(request, None),
        lambda: asyncio.run(prompts.prompt_ids(request, kind, special, tokenizer)),
        lambda: asyncio.run(prompts.render_chat(request.chat, tokenizer)),
    ]
    for check in checks:
        try:
            check()
        except (ServiceError, LeptonError):
            continue


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("2k", 2000), ("1.5KiB", 1536), ("2GiB", 2 << 30), ("3 MB", 3_000_000)]
)
def test_sizes_are_read(text: str, value: int) -> None:
    assert arguments.size(text) == value


def test_spans_are_read() -> None:
    assert span("16") == (16, 16)
    assert span("16-512") == (16, 512)
    for wrong in ("0", "5-2", "x"):
        with pytest.raises(Exception, match="is not"):
            span(wrong)


def test_percentiles_lie_between_neighbours() -> None:
    assert percentile([], 50) == 0.0
    assert percentile([3.0], 99) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert spread([0.001, 0.003])["mean"] == pytest.approx(2.0)
    assert spread([]) == {}


def test_a_report_counts_only_what_succeeded() -> None:
    from lepton_service.load import LoadResult, Sample

    good = Sample(10, output_tokens=4, messages=4, first_token=0.5, total=1.0, gaps=[0.1, 0.2, 0.3])
    bad = Sample(10, error="UNAVAILABLE: gone")
    figures = report(LoadResult([good, bad], seconds=2.0, client_cpu_seconds=0.5))
    assert (figures["requests"], figures["failed"], figures["errors"]) == (2, 1, {"UNAVAILABLE: gone": 1})
    assert figures["generated_tokens_per_second"] == 2.0
    assert figures["client_cpu_share"] == 0.25
