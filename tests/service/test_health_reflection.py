"""grpc.health.v1 per service, reflection in both versions, statistics and model descriptions, on both ports."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from lepton.v1 import stats_pb2_grpc
from lepton.v1.model_pb2 import Capability, ModelState
from lepton.v1.stats_pb2 import GetStatsRequest, WatchStatsRequest
from lepton_service.health import SERVICES

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def statuses(target: str) -> dict[str, int]:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return {
            name: (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", *SERVICES)
        }


async def test_health_answers_while_the_model_loads_and_after(run_front: Callable[..., Any], fake_engine: Any) -> None:
    engine = fake_engine()
    engine.loaded.clear()
    async with run_front(engine, ready=False) as running:
        for target in (running.target, running.control):
            assert await statuses(target) == {"": SERVING, **dict.fromkeys(SERVICES, NOT_SERVING)}
        async with grpc.aio.insecure_channel(running.control) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]))
            assert (await watch.read()).status == NOT_SERVING
            engine.loaded.set()
            assert (await watch.read()).status == SERVING
            watch.cancel()
        for target in (running.target, running.control):
            assert await statuses(target) == dict.fromkeys(("", *SERVICES), SERVING)


async def test_an_unknown_service_is_not_found_but_can_be_watched(running: Any) -> None:
    async with grpc.aio.insecure_channel(running.control) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="nothing"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()
        listed = await stub.List(health_pb2.HealthListRequest())
        assert set(listed.statuses) == {"", *SERVICES}


async def reflect(target: str, version: str, *requests: ServerReflectionRequest) -> list[ServerReflectionResponse]:
    async with grpc.aio.insecure_channel(target) as channel:
        method = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        call: Any = method()
        answers = []
        for request in requests:
            await call.write(request)
            answers.append(await call.read())
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        return answers


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes(running: Any, version: str) -> None:
    listed, described, file, missing, extension, empty = await reflect(
        running.target,
        version,
        ServerReflectionRequest(list_services=""),
        ServerReflectionRequest(file_containing_symbol="lepton.v1.GenerationService.Generate"),
        ServerReflectionRequest(file_by_filename="lepton/v1/stats.proto"),
        ServerReflectionRequest(file_containing_symbol="lepton.v1.Nothing"),
        ServerReflectionRequest(file_containing_extension=ExtensionRequest(containing_type="lepton.v1.Stats")),
        ServerReflectionRequest(),
    )
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        *SERVICES,
        "grpc.channelz.v1.Channelz",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    files = [FileDescriptorProto.FromString(data) for data in described.file_descriptor_response.file_descriptor_proto]
    assert files[0].name == "lepton/v1/generation.proto"
    assert {dependency for found in files for dependency in found.dependency} <= {found.name for found in files}
    assert len({found.name for found in files}) == len(files)
    first = FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert first.name == "lepton/v1/stats.proto"
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert extension.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert empty.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_everything_listed_can_be_described(running: Any) -> None:
    (listed,) = await reflect(running.target, "v1", ServerReflectionRequest(list_services=""))
    names = [service.name for service in listed.list_services_response.service]
    answers = await reflect(
        running.target, "v1", *(ServerReflectionRequest(file_containing_symbol=name) for name in names)
    )
    for name, answer in zip(names, answers, strict=True):
        found = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
        assert name in {f"{found.package}.{service.name}" for service in found.service}


async def test_the_control_port_has_stats_and_health_only(running: Any) -> None:
    (listed,) = await reflect(running.control, "v1", ServerReflectionRequest(list_services=""))
    names = {service.name for service in listed.list_services_response.service}
    assert "lepton.v1.StatsService" in names
    assert "lepton.v1.GenerationService" not in names
    async with grpc.aio.insecure_channel(running.control) as channel:
        assert (await stats_pb2_grpc.StatsServiceStub(channel).GetStats(GetStatsRequest())).stats.model == "fake-model"
        raw: Any = channel.unary_unary("/lepton.v1.GenerationService/Complete")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_stats_show_what_runs(running: Any) -> None:
    running.engine.go.clear()
    stream = running.client.generate([1] * 16, max_tokens=1)
    await stream.admitted()
    stats = await running.client.stats()
    assert (stats.model, stats.running, stats.loading, stats.draining) == ("fake-model", 1, False, False)
    assert (stats.kv_blocks_referenced, stats.kv_blocks_total, stats.kv_block_size) == (4, 1000, 4)
    assert stats.start_time.seconds <= stats.time.seconds
    assert not stats.HasField("mean_service_time")
    stream.cancel()


async def test_stats_while_loading_are_zero(run_front: Callable[..., Any], fake_engine: Any) -> None:
    engine = fake_engine()
    engine.loaded.clear()
    async with run_front(engine, ready=False) as running:
        stats = await running.client.stats()
        assert (stats.loading, stats.kv_blocks_total) == (True, 0)
        model = await running.client.get_model()
        assert (model.name, model.state, model.family) == ("fake-model", ModelState.MODEL_STATE_LOADING, "")


async def test_watching_stats_repeats_them(running: Any) -> None:
    request = WatchStatsRequest()
    request.interval.FromMilliseconds(10)
    call = stats_pb2_grpc.StatsServiceStub(running.client.channel).WatchStats(request)
    uptimes = [(await call.read()).stats.uptime.ToNanoseconds() for _ in range(3)]
    assert uptimes == sorted(uptimes)
    call.cancel()
    seen = []
    async for stats in running.client.watch_stats(0.01):
        seen.append(stats.model)
        if len(seen) == 2:
            break
    assert seen == ["fake-model"] * 2


async def test_the_model_is_described_with_its_limits(running: Any) -> None:
    (model,) = await running.client.list_models()
    assert model == await running.client.get_model("fake-model")
    assert (model.state, model.family, model.dtype) == (ModelState.MODEL_STATE_READY, "fake", "float32")
    assert (model.vocabulary_size, model.context_length, model.parameters) == (256, 4096, 7)
    assert list(model.capabilities) == [
        Capability.CAPABILITY_GENERATE,
        Capability.CAPABILITY_SCORE,
        Capability.CAPABILITY_CHAT,
    ]
    assert model.limits.max_n == 64
    assert not model.limits.HasField("max_stream_time")


async def test_tokenizer_and_template_are_served(running: Any) -> None:
    client = running.client
    assert await client.tokenize("hi") == [0, 104, 105]
    assert await client.tokenize("hi", add_special_tokens=False) == [104, 105]
    assert await client.tokenize("", add_special_tokens=False) == []
    assert await client.detokenize([0, 104, 105]) == "hi"
    assert await client.detokenize([0, 104], skip_special_tokens=False) == "\0h"
    rendered = await client.apply_chat_template([{"role": "user", "content": "hi"}])
    assert rendered.text == "<user>hi<assistant>"
    assert bytes(rendered.token_ids) == rendered.text.encode()
    long = "x" * 100_000
    assert len(await client.tokenize(long)) == 100_001


async def test_many_watches_end_with_their_clients(running: Any) -> None:
    async with grpc.aio.insecure_channel(running.control) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(20)]
        await asyncio.gather(*(watch.read() for watch in watches))
        assert running.front.control.tracker.count == 20
        for watch in watches:
            watch.cancel()
    while running.front.control.tracker.count:  # noqa: ASYNC110 (the server's own count)
        await asyncio.sleep(0.002)
