"""What is refused: the status, its details and the path of the field, in the contract's names."""

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

from lepton.v1 import generation_pb2_grpc, stats_pb2_grpc
from lepton.v1.chat_pb2 import ChatMessage, ChatPrompt, ContentPart, Role, Tool, ToolCall, ToolChoice
from lepton.v1.generation_pb2 import GenerateRequest
from lepton.v1.sampling_pb2 import Constraint
from lepton.v1.stats_pb2 import WatchStatsRequest
from lepton.v1.tokens_pb2 import TokenIds
from lepton_engine.errors import EngineDeadError, InvalidRequestError, QueueFullError, RequestFailedError
from lepton_service.client import (
    InternalError,
    InvalidArgumentError,
    LeptonClientError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnsupportedError,
    complete_request,
    generate_request,
)
from lepton_service.client.errors import from_rpc_error

USER = ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text="hi")])


def chat(*messages: ChatMessage, **fields: Any) -> ChatPrompt:
    return ChatPrompt(messages=messages or [USER], **fields)


async def refused(running: Any, request: GenerateRequest) -> tuple[grpc.aio.AioRpcError, dict[str, Any]]:
    """The error of a call, and its details by the name of their type."""
    call = generation_pb2_grpc.GenerationServiceStub(running.client.channel).Generate(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    trailers = dict(caught.value.trailing_metadata() or ())
    status = Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == caught.value.code().value[0]
    assert status.message == caught.value.details()
    return caught.value, {kind: detail for packed in status.details for kind, detail in unpack(packed)}


def unpack(packed: Packed) -> list[tuple[str, Any]]:
    types: list[Any] = [BadRequest, ErrorInfo, ResourceInfo, RetryInfo]
    return [(kind.__name__, kind.FromString(packed.value)) for kind in types if packed.Is(kind.DESCRIPTOR)]


FIELDS: list[tuple[str, GenerateRequest, str]] = [
    ("max_tokens 0", generate_request("hi", max_tokens=0), "stop.max_tokens"),
    ("max_tokens negative", generate_request("hi", max_tokens=-1), "stop.max_tokens"),
    ("min_tokens above max_tokens", generate_request("hi", max_tokens=1, min_tokens=2), "stop.min_tokens"),
    ("temperature NaN", generate_request("hi", temperature=math.nan), "sampling.temperature"),
    ("temperature negative", generate_request("hi", temperature=-0.1), "sampling.temperature"),
    ("temperature infinite", generate_request("hi", temperature=math.inf), "sampling.temperature"),
    ("top_p 0", generate_request("hi", top_p=0.0), "sampling.top_p"),
    ("top_p 2", generate_request("hi", top_p=2.0), "sampling.top_p"),
    ("top_k -2", generate_request("hi", top_k=-2), "sampling.top_k"),
    ("min_p 1.5", generate_request("hi", min_p=1.5), "sampling.min_p"),
    ("n 0", generate_request("hi", n=0), "sampling.n"),
    ("n too large", generate_request("hi", n=1000), "sampling.n"),
    ("seed too large", generate_request("hi", seed=2**63), "sampling.seed"),
    ("presence_penalty 3", generate_request("hi", presence_penalty=3.0), "sampling.presence_penalty"),
    ("presence_penalty NaN", generate_request("hi", presence_penalty=math.nan), "sampling.presence_penalty"),
    ("frequency_penalty -3", generate_request("hi", frequency_penalty=-3.0), "sampling.frequency_penalty"),
    ("top_p NaN", generate_request("hi", top_p=math.nan), "sampling.top_p"),
    ("min_p NaN", generate_request("hi", min_p=math.nan), "sampling.min_p"),
    ("repetition_penalty 0", generate_request("hi", repetition_penalty=0.0), "sampling.repetition_penalty"),
    ("logit_bias outside", generate_request("hi", logit_bias={300: 1.0}), "sampling.logit_bias[300]"),
    ("logit_bias too strong", generate_request("hi", logit_bias={3: 101.0}), "sampling.logit_bias"),
    ("logit_bias NaN", generate_request("hi", logit_bias={3: math.nan}), "sampling.logit_bias"),
    ("allowed outside", generate_request("hi", allowed_token_ids=[1, 256]), "sampling.allowed_token_ids[1]"),
    (
        "allowed are all biased away",
        generate_request("hi", allowed_token_ids=[5, 6], logit_bias={5: -100.0, 6: -100.0}),
        "sampling.allowed_token_ids",
    ),
    (
        "allowed are stop tokens before min_tokens",
        generate_request("hi", allowed_token_ids=[5, 255], stop_token_ids=[5], min_tokens=1),
        "sampling.allowed_token_ids",
    ),
    ("too many bad words", generate_request("hi", bad_words=["x"] * 1025), "sampling.bad_words"),
    ("bad word too long", generate_request("hi", bad_words=["x" * 1025]), "sampling.bad_words"),
    ("empty bad word", generate_request("hi", bad_words=[""]), "sampling.bad_words"),
    ("empty stop string", generate_request("hi", stop=[""]), "stop.strings"),
    ("too many stop strings", generate_request("hi", stop=["x"] * 65), "stop.strings"),
    ("stop string too long", generate_request("hi", stop=["x" * 1025]), "stop.strings"),
    ("too many stop tokens", generate_request("hi", stop_token_ids=[1] * 257), "stop.token_ids"),
    ("min_tokens negative", generate_request("hi", min_tokens=-1), "stop.min_tokens"),
    ("stop token outside", generate_request("hi", stop_token_ids=[999]), "stop.token_ids[0]"),
    ("stop strings without text", generate_request("hi", stop=["x"], return_text=False), "stop.strings"),
    ("logprobs negative", generate_request("hi", logprobs=-1), "output.logprobs"),
    ("logprobs too many", generate_request("hi", logprobs=10_000), "output.logprobs"),
    ("prompt_logprobs negative", generate_request("hi", prompt_logprobs=-1), "output.prompt_logprobs"),
    ("prompt_logprobs too many", generate_request("hi", prompt_logprobs=129), "output.prompt_logprobs"),
    ("coalescing 0", generate_request("hi", coalesce_tokens=0), "output.coalescing.max_tokens"),
    ("coalescing delay", generate_request("hi", coalesce_delay=60.0), "output.coalescing.max_delay"),
    ("priority", generate_request("hi", priority=101), "priority"),
    ("time_limit 0", generate_request("hi", time_limit=0.0), "time_limit"),
    ("no prompt", GenerateRequest(), "prompt"),
    ("empty text", generate_request(""), "text"),
    ("no token ids", GenerateRequest(token_ids=TokenIds()), "token_ids.ids"),
    ("token id outside", generate_request([1, 2, 256]), "token_ids.ids[2]"),
    ("special tokens of ids", generate_request([1], add_special_tokens=True), "add_special_tokens"),
    ("request id", generate_request("hi", request_id="with space"), "request_id"),
    ("request id too long", generate_request("hi", request_id="x" * 129), "request_id"),
    ("constraint without kind", generate_request("hi", constraint=Constraint()), "constraint"),
    (
        "schema that is no JSON",
        generate_request("hi", constraint=Constraint(json_schema="{")),
        "constraint.json_schema",
    ),
    ("schema that is none", generate_request("hi", constraint=Constraint(json_schema="[1]")), "constraint.json_schema"),
    (
        "schema too large",
        generate_request("hi", constraint=Constraint(json_schema='{"a": "' + "x" * (1 << 17) + '"}')),
        "constraint.json_schema",
    ),
    ("regex empty", generate_request("hi", constraint=Constraint(regex="")), "constraint.regex"),
    ("regex too large", generate_request("hi", constraint=Constraint(regex="a" * (1 << 18))), "constraint.regex"),
    ("grammar empty", generate_request("hi", constraint=Constraint(grammar="")), "constraint.grammar"),
    (
        "no choices",
        generate_request("hi", constraint=Constraint(choices=Constraint.Choices())),
        "constraint.choices.texts",
    ),
    (
        "empty choice",
        generate_request("hi", constraint=Constraint(choices=Constraint.Choices(texts=["a", ""]))),
        "constraint.choices.texts[1]",
    ),
    ("tool twice", generate_request(chat(USER, tools=[Tool(name="f"), Tool(name="f")])), "chat.tools[1].name"),
    ("tool without name", generate_request(chat(USER, tools=[Tool()])), "chat.tools[0].name"),
    (
        "tool of a list",
        generate_request(chat(USER, tools=[Tool(name="f", parameters_json_schema='{"type": "array"}')])),
        "chat.tools[0].parameters_json_schema",
    ),
    ("too many tools", generate_request(chat(USER, tools=[Tool(name=f"f{i}") for i in range(129)])), "chat.tools"),
    (
        "unknown tool",
        generate_request(chat(USER, tools=[Tool(name="f")], tool_choice=ToolChoice(name="g"))),
        "chat.tool_choice.name",
    ),
    (
        "call without tools",
        generate_request(chat(USER, tool_choice=ToolChoice(mode=ToolChoice.MODE_REQUIRED))),
        "chat.tool_choice",
    ),
    (
        "tools beside a constraint",
        generate_request(chat(USER, tools=[Tool(name="f")]), constraint=Constraint(regex="a")),
        "constraint",
    ),
    (
        "tools without text",
        generate_request(chat(USER, tools=[Tool(name="f")]), return_text=False),
        "output.return_text",
    ),
    ("chat without messages", GenerateRequest(chat=ChatPrompt()), "chat.messages"),
    ("role missing", generate_request(chat(ChatMessage())), "chat.messages[0].role"),
    (
        "part without kind",
        generate_request(chat(USER, ChatMessage(role=Role.ROLE_USER, content=[ContentPart()]))),
        "chat.messages[1].content[0]",
    ),
    (
        "tool calls of a user",
        generate_request(chat(ChatMessage(role=Role.ROLE_USER, tool_calls=[ToolCall(name="f")]))),
        "chat.messages[0].tool_calls",
    ),
    (
        "tool arguments",
        generate_request(chat(ChatMessage(role=Role.ROLE_ASSISTANT, tool_calls=[ToolCall(arguments_json="[1]")]))),
        "chat.messages[0].tool_calls[0].arguments_json",
    ),
    (
        "both ends",
        generate_request(chat(add_generation_prompt=True, continue_final_message=True)),
        "chat.add_generation_prompt",
    ),
]


@pytest.mark.parametrize(("request_", "field"), [case[1:] for case in FIELDS], ids=[case[0] for case in FIELDS])
async def test_a_bad_field_is_an_invalid_argument_with_its_path(
    running: Any, request_: GenerateRequest, field: str
) -> None:
    error, details = await refused(running, request_)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (details["ErrorInfo"].reason, details["ErrorInfo"].domain) == ("INVALID_FIELD", "lepton.dev")
    violation = details["BadRequest"].field_violations[0]
    assert violation.field == field
    assert violation.description
    assert running.engine.seen == []


LARGE: list[tuple[str, GenerateRequest, str]] = [
    ("biases", generate_request("hi", logit_bias=dict.fromkeys(range(1025), 1.0)), "sampling.logit_bias"),
    ("prompt_logprobs", generate_request([1] * 33_000, prompt_logprobs=128), "output.prompt_logprobs"),
]


@pytest.mark.parametrize(("request_", "field"), [case[1:] for case in LARGE], ids=[case[0] for case in LARGE])
async def test_more_than_a_large_model_takes_is_refused(running: Any, request_: GenerateRequest, field: str) -> None:
    running.engine.describe(vocab_size=50_000, max_model_len=1_000_000)
    error, details = await refused(running, request_)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details["BadRequest"].field_violations[0].field == field


@pytest.mark.parametrize("option", ["logprobs", "prompt_logprobs"])
async def test_more_alternatives_than_tokens_are_refused(running: Any, option: Any) -> None:
    running.engine.describe(vocab_size=120)
    with pytest.raises(InvalidArgumentError, match="vocabulary of 120") as caught:
        await running.client.complete([1, 2], max_tokens=1, **{option: 121})
    assert caught.value.violations[0].field == f"output.{option}"
    assert (await running.client.complete([1, 2], max_tokens=1, **{option: 120})).choices


async def test_what_is_not_known_is_refused_by_name(running: Any) -> None:
    running.engine.tokenizer.chat_template = SimpleNamespace(templates={"default": "{{ tools }} in a form of its own"})
    error, details = await refused(running, generate_request(chat(USER, tools=[Tool(name="f")])))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert details["ErrorInfo"].reason == "UNSUPPORTED_FIELD"
    assert details["BadRequest"].field_violations[0].field == "chat.tools"


async def test_a_prompt_beyond_the_context_is_refused(running: Any) -> None:
    error, details = await refused(running, generate_request([1] * 4096))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == "CONTEXT_LENGTH_EXCEEDED"
    assert "4095" in details["BadRequest"].field_violations[0].description
    _, details = await refused(running, generate_request([1] * 4000, min_tokens=97))
    assert details["BadRequest"].field_violations[0].field == "stop.min_tokens"


async def test_an_unknown_model_or_adapter_is_not_found(running: Any) -> None:
    for request, kind in (
        (generate_request("hi", model="x"), "model"),
        (generate_request("hi", adapter="x"), "adapter"),
    ):
        error, details = await refused(running, request)
        assert error.code() == grpc.StatusCode.NOT_FOUND
        assert (details["ResourceInfo"].resource_type, details["ResourceInfo"].resource_name) == (kind, "x")
    with pytest.raises(NotFoundError):
        await running.client.get_model("x")


async def test_what_a_request_holds_is_not_repeated_whole(running: Any) -> None:
    name = "模型" * 100_000
    error, details = await refused(running, generate_request("hi", model=name))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert len(details["ResourceInfo"].resource_name.encode()) < 600
    error, details = await refused(running, generate_request("hi", request_id="字" * 100_000))
    assert details["BadRequest"].field_violations[0].field == "request_id"


async def test_a_template_that_rejects_the_messages_says_why(running: Any) -> None:
    result = ChatMessage(role=Role.ROLE_TOOL, content=[ContentPart(text="1")], tool_call_id="c")
    error, details = await refused(running, generate_request(chat(USER, result)))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == "CHAT_TEMPLATE_FAILED"
    assert details["BadRequest"].field_violations[0].field == "chat.messages"
    assert "no tools here" in details["BadRequest"].field_violations[0].description


async def test_a_chat_without_a_template_is_a_failed_precondition(running: Any) -> None:
    running.engine.tokenizer.chat_template = None
    error, details = await refused(running, generate_request(chat()))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert details["ErrorInfo"].reason == "NO_CHAT_TEMPLATE"


async def test_complete_refuses_coalescing(running: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await running.client.complete("hi", coalesce_tokens=4)
    assert caught.value.violations[0].field == "output.coalescing"


async def test_an_id_in_flight_is_refused_and_free_again_at_the_end(running: Any) -> None:
    running.engine.go.clear()
    stream = running.client.generate("hi", request_id="same", max_tokens=1)
    await stream.admitted()
    error, details = await refused(running, generate_request("hi", request_id="same"))
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS
    assert details["ErrorInfo"].reason == "REQUEST_ID_IN_USE"
    running.engine.go.set()
    assert [event async for event in stream]
    await running.client.complete("hi", request_id="same", max_tokens=1)


ENGINE: list[tuple[Exception, grpc.StatusCode, str]] = [
    (QueueFullError("the queue is full", retry_after=2.5), grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
    (RequestFailedError("NaN logits"), grpc.StatusCode.INTERNAL, "REQUEST_FAILED"),
    (InvalidRequestError("prompt", "never fits the KV cache"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    (
        InvalidRequestError("sampling_params.n", "64 is more than the 8 sequences that can run"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    ),
    (
        InvalidRequestError("sampling_params.bad_words", "'x' is no token in this vocabulary"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    ),
    (ValueError("secret prompt text"), grpc.StatusCode.INTERNAL, "INTERNAL"),
]


@pytest.mark.parametrize(("raised", "code", "reason"), ENGINE, ids=[case[2] for case in ENGINE])
async def test_engine_errors_have_their_status(
    running: Any, raised: Exception, code: grpc.StatusCode, reason: str
) -> None:
    running.engine.refusal = raised
    error, details = await refused(running, generate_request("hi"))
    assert (error.code(), details["ErrorInfo"].reason) == (code, reason)
    assert "secret" not in str(error.details())
    if isinstance(raised, QueueFullError):
        assert details["RetryInfo"].retry_delay.nanos == 500_000_000
        assert details["RetryInfo"].retry_delay.seconds == 2
    if isinstance(raised, InvalidRequestError):
        path = raised.field.replace("sampling_params", "sampling").replace("prompt", "text")
        assert details["BadRequest"].field_violations[0].field == path


async def test_a_request_that_fails_midway_delivers_what_it_had(running: Any) -> None:
    running.engine.go.clear()
    stream = running.client.generate("hi", max_tokens=100)
    await stream.admitted()
    running.engine.failure = RequestFailedError("NaN logits")
    running.engine.go.set()
    with pytest.raises(InternalError) as caught:
        [event async for event in stream]
    assert caught.value.reason == "REQUEST_FAILED"
    assert running.engine.jobs == []


async def test_a_request_that_fails_leaves_the_others_alone(running: Any) -> None:
    running.engine.go.clear()
    running.engine.failures["broken"] = RequestFailedError("the model's logits are not finite")

    async def run(name: str) -> str:
        return "".join([text async for text in running.client.generate("hi", max_tokens=30, request_id=name).texts()])

    streams = [asyncio.ensure_future(run(name)) for name in ("one", "broken", "two")]
    running.engine.go.set()
    one, broken, two = await asyncio.gather(*streams, return_exceptions=True)
    assert one == two == "abcdefghijklmnopqrstuvwxyzabcd"
    assert isinstance(broken, InternalError)
    assert (broken.code, broken.reason) == (grpc.StatusCode.INTERNAL, "REQUEST_FAILED")
    assert "not finite" in broken.message
    assert (await running.client.complete("hi", max_tokens=2, request_id="broken2")).choices[0].text == "ab"


async def test_an_engine_that_has_ended_makes_calls_unavailable(run_front: Callable[..., Any]) -> None:
    async with run_front() as running:
        running.engine.refusal = running.engine.dead = EngineDeadError("the engine has ended")
        once = [("grpc.enable_retries", 0)]  # the published retries would end at a server that has gone
        async with grpc.aio.insecure_channel(running.target, options=once) as channel:
            call: Any = generation_pb2_grpc.GenerationServiceStub(channel).Complete(complete_request("hi"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
        error = from_rpc_error(caught.value)
        assert isinstance(error, UnavailableError)
        assert error.reason == "ENGINE_UNAVAILABLE"


async def test_while_the_model_loads_requests_are_unavailable(
    run_front: Callable[..., Any], fake_engine: Callable[[], Any]
) -> None:
    engine = fake_engine()
    engine.loaded.clear()
    async with run_front(engine, ready=False) as running:
        error, details = await refused(running, generate_request("hi"))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert details["ErrorInfo"].reason == "MODEL_LOADING"
        assert details["RetryInfo"].retry_delay.seconds == 1


async def test_a_message_over_the_limit_is_refused(run_front: Callable[..., Any]) -> None:
    async with run_front(max_request_bytes=10_000) as running:
        with pytest.raises(ResourceExhaustedError, match="larger than max"):
            await running.client.complete("x" * 20_000)
        assert (await running.client.complete("x" * 2_000, max_tokens=1)).choices
        assert (await running.client.get_model()).limits.max_request_bytes == 10_000


async def test_garbage_on_the_port_ends_that_connection_only(running: Any) -> None:
    host, port = running.target.split(":")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff" * 500, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(garbage)
        while await reader.read(4096):  # until the server closes
            pass
        writer.close()
    assert (await running.client.complete("hi", max_tokens=1)).choices


async def test_garbage_as_a_message_is_an_error_of_that_call(running: Any) -> None:
    call = running.client.channel.unary_unary("/lepton.v1.GenerationService/Complete")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"\xff\xff\xff\xff")
    assert (await running.client.complete("hi", max_tokens=1)).choices


async def test_an_unknown_method_is_unimplemented(running: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.client.channel.unary_unary("/lepton.v1.GenerationService/Nothing")(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_tokens_outside_the_vocabulary_are_not_detokenised(running: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await running.client.detokenize([1, 500])
    assert caught.value.violations[0].field == "token_ids[1]"


async def test_an_interval_out_of_range_is_refused(running: Any) -> None:
    request = WatchStatsRequest()
    request.interval.FromSeconds(4000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stats_pb2_grpc.StatsServiceStub(running.client.channel).WatchStats(request):
            pass
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_client_raises_what_the_status_says(running: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await running.client.complete("hi", top_p=2.0)
    assert caught.value.violations[0].field == "sampling.top_p"
    assert caught.value.reason == "INVALID_FIELD"
    running.engine.tokenizer.chat_template = SimpleNamespace(templates={"default": "{{ tools }} in a form of its own"})
    with pytest.raises(UnsupportedError):
        await running.client.complete(chat(USER, tools=[Tool(name="f")]))
    running.engine.refusal = QueueFullError("full", retry_after=1.5)
    with pytest.raises(ResourceExhaustedError) as full:
        async for _ in running.client.generate("hi"):
            pass
    assert full.value.retry_after == 1.5
    assert isinstance(full.value, LeptonClientError)
