"""ScoringService over a real channel: what is scored, what is refused, what ends a call."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from lepton.v1 import scoring_pb2_grpc
from lepton.v1.chat_pb2 import ChatMessage, ChatPrompt, ContentPart, Role, Tool
from lepton.v1.scoring_pb2 import ScoreRequest
from lepton_engine.errors import EngineDeadError, InvalidRequestError, QueueFullError, RequestFailedError
from lepton_engine.outputs import Logprob, ScoreOutput
from lepton_service.client import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    LeptonClient,
    LeptonClientError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    score_request,
)
from lepton_service.client.channel import MAX_RESPONSE_BYTES
from lepton_service.client.errors import from_rpc_error
from lepton_service.converters import scoring
from lepton_service.converters.outputs import MAX_ENTRIES

Eventually = Callable[[Callable[[], bool]], Any]


async def test_every_token_but_the_first_is_scored(running: Any) -> None:
    answer = await running.client.score([7, 10, 20], request_id="one")
    own = [-1.01, -2.02]
    assert list(answer.token_ids) == [7, 10, 20]
    assert list(answer.logprobs.logprobs) == pytest.approx(own)
    assert list(answer.logprobs.ranks) == [1, 1]
    assert (answer.logprobs.top_per_token, len(answer.logprobs.top_token_ids)) == (0, 0)
    assert answer.total_logprob == pytest.approx(sum(own), abs=1e-12), "the sum is not of 32-bit values"
    assert answer.perplexity == pytest.approx(math.exp(-sum(own) / 2))
    assert (answer.request_id, answer.model) == ("one", "fake-model")
    assert (answer.usage.prompt_tokens, answer.usage.cached_tokens, answer.usage.generated_tokens) == (3, 0, 0)
    assert (answer.timings.queue_time.seconds, answer.timings.total_time.seconds) == (1, 3)
    assert not answer.timings.HasField("time_to_first_token")


async def test_the_context_is_not_scored(running: Any) -> None:
    answer = await running.client.score([7, 10, 20, 30], context_tokens=3, return_token_ids=False)
    assert list(answer.logprobs.logprobs) == pytest.approx([-3.03])
    assert answer.total_logprob == pytest.approx(-3.03)
    assert answer.perplexity == pytest.approx(math.exp(3.03))
    assert not answer.token_ids
    assert answer.usage.prompt_tokens == 4


async def test_alternatives_stand_row_after_row_likeliest_first(running: Any) -> None:
    answer = await running.client.score([7, 100, 200], top_logprobs=3)
    assert answer.logprobs.top_per_token == 3
    assert list(answer.logprobs.top_token_ids) == [100, 0, 1, 200, 0, 1]
    assert list(answer.logprobs.top_logprobs) == pytest.approx([-1.1, -1, -2, -2.2, -1, -2])


async def test_every_option_reaches_the_engine(running: Any) -> None:
    stub = scoring_pb2_grpc.ScoringServiceStub(running.client.channel)
    metadata = (("x-lepton-tenant", "acme"), ("x-request-id", "from-metadata"))
    call: Any = stub.Score(score_request("hi", top_logprobs=2, priority=-3), timeout=100, metadata=metadata)
    assert (await call).request_id == "from-metadata"
    assert dict(await call.initial_metadata())["x-request-id"] == "from-metadata"
    job = running.engine.seen[-1]
    assert job.prompt == [0, 104, 105]
    assert job.params.prompt_logprobs == 2
    assert (job.options["priority"], job.options["tenant"]) == (-3, "acme")
    assert job.options["deadline"] is not None


async def test_prompts_of_every_kind(running: Any) -> None:
    await running.client.score("hi", add_special_tokens=False)
    assert running.engine.seen[-1].prompt == [104, 105]
    await running.client.score([{"role": "user", "content": "hi"}])
    assert bytes(running.engine.seen[-1].prompt) == b"<user>hi", "no further turn is opened"
    opened = ChatPrompt(
        messages=[ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text="hi")])],
        tools=[Tool(name="look")],
        add_generation_prompt=True,
    )
    await running.client.score(opened)
    assert bytes(running.engine.seen[-1].prompt) == b"[look]<user>hi<assistant>", "tools are only rendered"


async def test_a_prompt_as_long_as_the_context_is_scored(running: Any) -> None:
    answer = await running.client.score([1] * 4096, top_logprobs=1)
    assert len(answer.logprobs.logprobs) == len(answer.logprobs.top_logprobs) == 4095


async def test_threads_score_too(running: Any) -> None:
    def score() -> float:
        with LeptonClient(running.target) as client:
            return client.score([7, 10], timeout=100).total_logprob

    assert await asyncio.to_thread(score) == pytest.approx(-1.01)


BAD: list[tuple[str, ScoreRequest, str]] = [
    ("no prompt", ScoreRequest(), "prompt"),
    ("empty text", score_request(""), "text"),
    ("no token ids", score_request([]), "token_ids.ids"),
    ("one token", score_request([1]), "token_ids.ids"),
    ("one token of text", score_request("x", add_special_tokens=False), "text"),
    ("token id outside", score_request([1, 256]), "token_ids.ids[1]"),
    ("special tokens of ids", score_request([1, 2], add_special_tokens=True), "add_special_tokens"),
    ("context 0", score_request([1, 2], context_tokens=0), "context_tokens"),
    ("context negative", score_request([1, 2], context_tokens=-1), "context_tokens"),
    ("context is all", score_request([1, 2], context_tokens=2), "context_tokens"),
    ("alternatives negative", score_request([1, 2], top_logprobs=-1), "top_logprobs"),
    ("alternatives above the maximum", score_request([1, 2], top_logprobs=129), "top_logprobs"),
    ("priority", score_request([1, 2], priority=101), "priority"),
    ("request id", score_request([1, 2], request_id="with space"), "request_id"),
    ("chat without messages", ScoreRequest(chat=ChatPrompt()), "chat.messages"),
]


@pytest.mark.parametrize(("request_", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_a_bad_field_is_an_invalid_argument_with_its_path(
    running: Any, request_: ScoreRequest, field: str
) -> None:
    error = await refused(running, request_, InvalidArgumentError)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.violations[0].field == field
    assert error.violations[0].description
    assert running.engine.seen == []


async def refused(running: Any, request: ScoreRequest, kind: type[LeptonClientError]) -> LeptonClientError:
    call: Any = scoring_pb2_grpc.ScoringServiceStub(running.client.channel).Score(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert isinstance(error, kind)
    return error


async def test_more_alternatives_than_tokens_are_refused(running: Any) -> None:
    running.engine.describe(vocab_size=100)
    error = await refused(running, score_request([1, 2], top_logprobs=101), InvalidArgumentError)
    assert error.violations[0].field == "top_logprobs"
    assert "0 to 100" in error.violations[0].description
    assert (await running.client.score([1, 2], top_logprobs=100)).logprobs.top_per_token == 100


async def test_an_answer_that_no_message_holds_is_refused(running: Any) -> None:
    running.engine.describe(max_model_len=1_000_000)
    error = await refused(running, score_request([1] * 100_000, top_logprobs=50), InvalidArgumentError)
    assert error.violations[0].field == "top_logprobs"
    assert "40 alternatives at most for 99999 scored tokens" in error.violations[0].description
    late = score_request([1] * 100_000, top_logprobs=50, context_tokens=99_000)
    assert await scoring_pb2_grpc.ScoringServiceStub(running.client.channel).Score(late)


def test_the_largest_answer_fits_the_published_clients() -> None:
    tokens, top, highest = 2_000, 128, 2**32 - 1
    rows: list[Any] = [{highest - i: Logprob(-1.0, i + 1) for i in range(top)} for _ in range(tokens)]
    output = ScoreOutput("id", [highest] * (tokens + 1), [None, *[-1.0] * tokens], [None, *rows])
    message = scoring.response(output, model="m", request_id="r", context=1, top=top, ids=True)
    entry = message.ByteSize() / (tokens * (1 + top))
    assert entry * MAX_ENTRIES < MAX_RESPONSE_BYTES


async def test_a_prompt_beyond_the_context_is_refused(running: Any) -> None:
    error = await refused(running, score_request([1] * 4097), InvalidArgumentError)
    assert error.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert "4096" in error.violations[0].description


async def test_an_unknown_model_or_adapter_is_not_found(running: Any) -> None:
    for request in (score_request("hi", model="x"), score_request("hi", adapter="x")):
        await refused(running, request, NotFoundError)


async def test_an_id_in_flight_is_refused(running: Any, eventually: Eventually) -> None:
    running.engine.go.clear()
    first = asyncio.ensure_future(running.client.score("hi", request_id="same"))
    await eventually(lambda: len(running.engine.jobs) == 1)
    for call in (running.client.score("hi", request_id="same"), running.client.complete("hi", request_id="same")):
        with pytest.raises(InvalidArgumentError) as caught:
            await call
        assert caught.value.reason == "REQUEST_ID_IN_USE"
    running.engine.go.set()
    assert (await first).request_id == "same"


async def test_cancelling_frees_what_it_held(running: Any, eventually: Eventually) -> None:
    running.engine.go.clear()
    call = asyncio.ensure_future(running.client.score("hello"))
    await eventually(lambda: len(running.engine.jobs) == 1)
    assert (await running.client.stats()).kv_blocks_referenced > 0
    call.cancel()
    await eventually(lambda: running.engine.jobs == [])
    assert (await running.client.stats()).kv_blocks_referenced == 0
    assert running.engine.aborted == 1


async def test_a_passed_deadline_frees_and_fails(running: Any, eventually: Eventually) -> None:
    running.engine.go.clear()
    with pytest.raises(DeadlineExceededError):
        await running.client.score("hello", deadline=0.05)
    await eventually(lambda: running.engine.jobs == [])


async def test_the_servers_bound_is_a_deadline_too(run_front: Callable[..., Any]) -> None:
    async with run_front(max_stream_seconds=0.05) as running:
        running.engine.go.clear()
        for deadline in (None, 1000.0):
            with pytest.raises(DeadlineExceededError) as caught:
                await running.client.score("hello", deadline=deadline)
            assert caught.value.reason == "DEADLINE_EXCEEDED"


ENGINE: list[tuple[Exception, type[LeptonClientError], str]] = [
    (QueueFullError("the queue is full"), ResourceExhaustedError, "QUEUE_FULL"),
    (RequestFailedError("the step failed"), InternalError, "REQUEST_FAILED"),
    (InvalidRequestError("prompt", "never fits the KV cache"), InvalidArgumentError, "INVALID_FIELD"),
    (EngineDeadError("the engine has ended"), UnavailableError, "ENGINE_UNAVAILABLE"),
]


@pytest.mark.parametrize(("raised", "kind", "reason"), ENGINE, ids=[case[2] for case in ENGINE])
async def test_engine_errors_have_their_status(
    running: Any, raised: Exception, kind: type[LeptonClientError], reason: str
) -> None:
    running.engine.refusal = raised
    once = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(running.target, options=once) as channel:
        call: Any = scoring_pb2_grpc.ScoringServiceStub(channel).Score(score_request("hi"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    error = from_rpc_error(caught.value)
    assert isinstance(error, kind)
    assert error.reason == reason
    if isinstance(raised, InvalidRequestError):
        assert error.violations[0].field == "text"


def scored(*own: float) -> ScoreOutput:
    rows: list[Any] = [None, *({1: Logprob(value, 1)} for value in own)]
    return ScoreOutput("id", [1] * (len(own) + 1), [None, *own], rows)


def test_what_is_not_a_number_fails_the_request() -> None:
    with pytest.raises(RequestFailedError, match="NaN"):
        scoring.response(scored(-1.0, math.nan), model="m", request_id="r", context=1, top=0, ids=True)


@pytest.mark.parametrize("value", [-math.inf, -800.0])
def test_an_impossible_token_has_no_finite_perplexity(value: float) -> None:
    message = scoring.response(scored(value), model="m", request_id="r", context=1, top=0, ids=True)
    assert (message.total_logprob, message.perplexity) == (value, math.inf)


@pytest.mark.parametrize("option", ["nonsense", "temperature"])
def test_an_unknown_option_of_the_client_is_an_error(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        score_request("hi", **dict.fromkeys([option], 1))  # type: ignore[arg-type]
