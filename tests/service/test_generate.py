"""GenerationService over a real channel: events, options, what the engine is asked for."""

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from lepton.v1 import generation_pb2_grpc
from lepton.v1.chat_pb2 import ChatMessage, ChatPrompt, ContentPart, Role
from lepton.v1.generation_pb2 import FinishReason, GenerateResponse
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_service.client import complete_request, generate_request


async def events(stream: Any) -> list[GenerateResponse]:
    return [event async for event in stream]


def kinds(found: list[GenerateResponse]) -> list[str]:
    return [event.WhichOneof("event") or "" for event in found]


async def test_events_come_in_order(running: Any) -> None:
    found = await events(running.client.generate("hi", max_tokens=5, seed=7))
    assert kinds(found)[0] == "started"
    assert kinds(found)[-1] == "finished"
    assert set(kinds(found)[1:-1]) == {"delta"}
    started = found[0].started
    assert (started.model, started.prompt_tokens, started.seed) == ("fake-model", 3, 7)
    assert started.request_id
    assert not started.prompt_token_ids
    assert "".join(event.delta.text for event in found) == "abcde"
    assert [token for event in found for token in event.delta.token_ids] == [97, 98, 99, 100, 101]
    finished = found[-1].finished
    assert finished.reason == FinishReason.FINISH_REASON_LENGTH
    assert finished.WhichOneof("matched_stop") is None
    assert (finished.usage.prompt_tokens, finished.usage.generated_tokens) == (3, 5)
    assert finished.timings.HasField("time_to_first_token")


async def test_complete_says_the_same_as_the_stream(running: Any) -> None:
    answer = await running.client.complete("hi", max_tokens=5, n=2, logprobs=1)
    assert [choice.text for choice in answer.choices] == ["abcde", "abcde"]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage.generated_tokens == 10
    assert answer.choices[1].finished.usage.generated_tokens == 5
    assert answer.choices[0].logprobs.top_per_token == 1
    assert len(answer.choices[0].logprobs.logprobs) == 5


async def test_choices_are_told_apart(running: Any) -> None:
    found = await events(running.client.generate("hi", max_tokens=4, n=3))
    for choice in range(3):
        assert "".join(e.delta.text for e in found if e.WhichOneof("event") == "delta" and e.delta.choice == choice)
    finished = [event.finished.choice for event in found if event.WhichOneof("event") == "finished"]
    assert sorted(finished) == [0, 1, 2]


async def test_logprobs_are_packed_row_after_row(running: Any) -> None:
    found = await events(running.client.generate("hi", max_tokens=3, logprobs=2))
    packed = [event.delta.logprobs for event in found if event.WhichOneof("event") == "delta"]
    assert sum(len(part.logprobs) for part in packed) == 3
    for part in packed:
        assert part.top_per_token == 2
        assert len(part.top_token_ids) == len(part.top_logprobs) == 2 * len(part.logprobs)
        assert list(part.top_token_ids[1::2]) == [1] * len(part.logprobs)
        assert list(part.ranks) == [1] * len(part.logprobs)


async def test_logprobs_of_the_prompt_start_at_position_one(running: Any) -> None:
    found = await events(running.client.generate("hello", max_tokens=1, prompt_logprobs=0))
    scored = [event.prompt_logprobs for event in found if event.WhichOneof("event") == "prompt_logprobs"]
    assert [part.first_position for part in scored] == [1]
    assert list(scored[0].logprobs.logprobs) == [-1.0] * 5
    answer = await running.client.complete("hello", max_tokens=1, prompt_logprobs=0)
    assert len(answer.prompt_logprobs.logprobs.logprobs) == 5


async def test_token_ids_can_be_left_out_and_the_prompts_asked_for(running: Any) -> None:
    found = await events(
        running.client.generate("hi", max_tokens=3, return_token_ids=False, return_prompt_token_ids=True)
    )
    assert list(found[0].started.prompt_token_ids) == [0, 104, 105]
    assert not any(event.delta.token_ids for event in found)
    assert found[-1].finished.usage.generated_tokens == 3


async def test_every_option_reaches_the_engine(running: Any) -> None:
    request = generate_request(
        [1, 2, 3],
        n=2,
        temperature=0.5,
        top_p=0.25,
        top_k=3,
        min_p=0.125,
        seed=11,
        presence_penalty=1.5,
        frequency_penalty=-1.5,
        repetition_penalty=1.25,
        logit_bias={5: -2.0},
        allowed_token_ids=[97, 98],
        bad_words=["no"],
        stop=["x", "y"],
        stop_token_ids=[9],
        include_stop_in_output=True,
        ignore_eos=True,
        max_tokens=4,
        min_tokens=2,
        logprobs=0,
        skip_special_tokens=False,
        priority=-3,
        time_limit=60.0,
    )
    stub = generation_pb2_grpc.GenerationServiceStub(running.client.channel)
    async for _ in stub.Generate(request, timeout=100, metadata=(("x-lepton-tenant", "acme"),)):
        pass
    job = running.engine.seen[-1]
    params = job.params
    assert job.prompt == [1, 2, 3]
    assert (params.n, params.temperature, params.top_p, params.top_k, params.min_p) == (2, 0.5, 0.25, 3, 0.125)
    assert (params.seed, params.presence_penalty, params.frequency_penalty) == (11, 1.5, -1.5)
    assert (params.repetition_penalty, dict(params.logit_bias)) == (1.25, {5: -2.0})
    assert (params.allowed_token_ids, params.bad_words) == ((97, 98), ("no",))
    assert (params.stop, params.stop_token_ids) == (("x", "y"), (9,))
    assert (params.include_stop_str_in_output, params.ignore_eos) == (True, True)
    assert (params.max_tokens, params.min_tokens, params.logprobs) == (4, 2, 0)
    assert params.skip_special_tokens is False
    assert (job.options["priority"], job.options["tenant"], job.options["time_limit"]) == (-3, "acme", 60.0)
    assert job.options["deadline"] is not None


async def test_what_is_left_out_takes_the_models_default(running: Any) -> None:
    defaults = {"temperature": 0.5, "top_k": 50, "top_p": 0.75, "min_p": 0.125, "repetition_penalty": 1.25}
    running.engine.describe(default_sampling=defaults)
    given = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
    await running.client.complete("hi", max_tokens=1)
    await running.client.complete("hi", max_tokens=1, **given)
    found = [{name: getattr(job.params, name) for name in defaults} for job in running.engine.seen]
    assert found == [defaults, given]
    model = await running.client.get_model()
    assert {field.name: value for field, value in model.default_sampling.ListFields()} == defaults


async def test_what_is_left_out_takes_the_contracts_default(running: Any) -> None:
    await running.client.complete("hi")
    job = running.engine.seen[-1]
    assert job.params == SamplingParams(max_tokens=None, output_kind=OutputKind.FINAL_ONLY)
    options = {"priority": 0, "tenant": "", "adapter": "", "deadline": None, "time_limit": None}
    assert {name: job.options[name] for name in options} == options


async def test_without_max_tokens_the_context_is_the_bound(running: Any) -> None:
    answer = await running.client.complete([1] * 4090)
    assert answer.usage.generated_tokens == 6


async def test_a_chat_is_rendered_and_tokenised_without_further_special_tokens(running: Any) -> None:
    await running.client.complete([{"role": "user", "content": "hi"}], max_tokens=1)
    assert bytes(running.engine.seen[-1].prompt) == b"<user>hi<assistant>"


async def test_template_arguments_and_a_continued_message_reach_the_template(running: Any) -> None:
    arguments = Struct()
    arguments.update({"level": 3, "thinking": False})
    chat = ChatPrompt(
        messages=[
            ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text="a"), ContentPart(text="b")]),
            ChatMessage(role=Role.ROLE_ASSISTANT, content=[ContentPart(text="c")], reasoning_text="hm"),
        ],
        template_arguments=arguments,
        continue_final_message=True,
    )
    await running.client.complete(chat, max_tokens=1)
    assert bytes(running.engine.seen[-1].prompt) == b"[level=3][thinking=False]<user>ab<assistant>c"


async def test_the_request_id_comes_from_field_then_metadata_then_is_made(running: Any) -> None:
    stub = generation_pb2_grpc.GenerationServiceStub(running.client.channel)
    metadata = (("x-request-id", "from-metadata"),)
    for given, expected in (("from-field", "from-field"), ("", "from-metadata")):
        call = stub.Generate(generate_request("hi", max_tokens=1, request_id=given), metadata=metadata)
        assert dict(await call.initial_metadata())["x-request-id"] == expected
        assert [e.started.request_id async for e in call if e.WhichOneof("event") == "started"] == [expected]
    made = await running.client.complete("hi", max_tokens=1)
    assert len(made.started.request_id) == 32


async def test_headers_go_out_on_admission_and_not_before(running: Any) -> None:
    running.engine.go.clear()
    running.engine.admit.clear()
    stub = generation_pb2_grpc.GenerationServiceStub(running.client.channel)
    call = stub.Generate(generate_request("hi", max_tokens=1))
    while not running.engine.jobs:
        await running.client.stats()
    await running.client.stats()
    assert "x-request-id" not in dict(call._cython_call._initial_metadata or ())
    running.engine.admit.set()
    assert "x-request-id" in dict(await call.initial_metadata())
    running.engine.go.set()
    assert [event async for event in call]


async def test_coalescing_loses_nothing(running: Any) -> None:
    found = await events(running.client.generate("hi", max_tokens=41, coalesce_tokens=10, coalesce_delay=10.0))
    sizes = [len(event.delta.token_ids) for event in found if event.WhichOneof("event") == "delta"]
    assert sum(sizes) == 41
    assert len(sizes) <= 6
    assert "".join(event.delta.text for event in found) == ("abcdefghijklmnopqrstuvwxyz" * 2)[:41]


async def test_streams_are_bounded_by_the_servers_limit(run_front: Any) -> None:
    async with run_front(max_stream_seconds=7.0) as running:
        await running.client.complete("hi", max_tokens=1)
        await running.client.complete("hi", max_tokens=1, time_limit=3.0)
        await running.client.complete("hi", max_tokens=1, time_limit=30.0)
        assert [job.options["time_limit"] for job in running.engine.seen] == [7.0, 3.0, 7.0]
        assert (await running.client.get_model()).limits.max_stream_time.seconds == 7


async def test_either_requests_bytes_are_the_others() -> None:
    options: Any = {"temperature": 0.5, "stop": ["x"], "max_tokens": 3}
    request = generate_request("hi", **options)
    assert complete_request("hi", **options).SerializeToString() == request.SerializeToString()


@pytest.mark.parametrize("option", ["nonsense", "maxtokens"])
def test_an_unknown_option_of_the_client_is_an_error(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        generate_request("hi", **dict.fromkeys([option], 1))  # type: ignore[arg-type]
