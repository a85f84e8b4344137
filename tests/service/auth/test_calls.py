"""What callers reach: nothing without a credential, health aside; and their own tenant only, with one."""

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lepton_service.auth.jwt_options import JWTOptions
from lepton_service.auth.options import AuthOptions
from lepton_service.client import AsyncLeptonClient, InvalidArgumentError, PermissionError
from lepton_service.health import SERVICES
from lepton_service.server import CHANNELZ
from lepton_service.servicers.reflection import ALPHA, V1

Run = Callable[..., Any]
OWN, ANOTHER = "token-of-acme", "token-of-beta"
ASKING = {"authorization": f"Bearer {OWN}"}


@pytest.fixture
async def guarded(run_front: Run, tmp_path: Path, token_lines: Callable[..., str]) -> AsyncIterator[Any]:
    """A server that asks for tokens."""
    (tmp_path / "tokens").write_text(token_lines(acme=OWN, beta=ANOTHER))
    async with run_front(auth=AuthOptions(tokens=tmp_path / "tokens")) as running:
        yield running


async def call(target: str, path: str, metadata: Iterable[tuple[str, str]] = ()) -> grpc.aio.AioRpcError:
    """The error of a call whose message never comes."""
    async with grpc.aio.insecure_channel(target) as channel:
        method: Any = channel.stream_stream(path)
        stream = method(metadata=tuple(metadata), timeout=30)
        try:
            await stream.read()
        except grpc.aio.AioRpcError as error:
            return error
        finally:
            stream.cancel()
    raise AssertionError(f"{path} has answered")


def info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    trailers = dict(error.trailing_metadata() or ())
    found = ErrorInfo()
    assert Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(found)
    return found


def methods() -> list[str]:
    pool = descriptor_pool.Default()
    return [
        f"/{service}/{method.name}"
        for service in (*SERVICES, ALPHA, V1, CHANNELZ)
        for method in pool.FindServiceByName(service).methods
    ]


async def test_no_method_is_served_without_a_credential(guarded: Any) -> None:
    unknown = ["/lepton.v1.GenerationService/None", "/grpc.health.v1.Health2/Check", "/x", "/grpc.health.v1.HealthX/C"]
    served = methods()
    assert len(served) > 18
    for path in (*served, *unknown):
        error = await call(guarded.target, path)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, path
        assert info(error).reason == "CREDENTIAL_MISSING"
        assert info(error).metadata["www-authenticate"] == 'Bearer realm="lepton"'
        error = await call(guarded.target, path, [("authorization", "Bearer wrong")])
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, path
        assert info(error).reason == "CREDENTIAL_INVALID"
    assert guarded.engine.seen == []


async def test_unknown_methods_are_unknown_to_those_who_may_call(guarded: Any) -> None:
    error = await call(guarded.target, "/lepton.v1.GenerationService/None", ASKING.items())
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_served_to_all(guarded: Any) -> None:
    async with grpc.aio.insecure_channel(guarded.target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICES[0]))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_control_port_asks_nobody_and_tells_of_no_peers(guarded: Any) -> None:
    async with AsyncLeptonClient(guarded.control) as client:
        assert (await client.stats()).running == 0
    assert (await call(guarded.control, f"/{CHANNELZ}/GetServers")).code() is grpc.StatusCode.UNIMPLEMENTED
    listed = []
    async with grpc.aio.insecure_channel(guarded.control) as channel:
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            listed = [service.name for service in answer.list_services_response.service]
    assert "lepton.v1.StatsService" in listed
    assert CHANNELZ not in listed
    assert not any("Generation" in name for name in listed)


async def test_a_call_is_of_the_tenant_of_its_token(guarded: Any) -> None:
    for token, tenant in ((OWN, "acme"), (ANOTHER, "beta")):
        async with AsyncLeptonClient(guarded.target, token=token) as client:
            await client.complete("hi", max_tokens=2)
            await client.score("hi there")
            assert [job.options["tenant"] for job in guarded.engine.seen] == [tenant, tenant]
        guarded.engine.seen.clear()
    async with AsyncLeptonClient(guarded.target, token=OWN, metadata=[("x-lepton-tenant", "acme")]) as client:
        await client.complete("hi", max_tokens=2)
    assert guarded.engine.seen[0].options["tenant"] == "acme"


async def test_no_call_names_another_tenant_than_its_token(guarded: Any) -> None:
    for path in methods():
        for tenants in (["beta"], ["acme", "beta"], [""]):
            metadata = [*ASKING.items(), *(("x-lepton-tenant", tenant) for tenant in tenants)]
            error = await call(guarded.target, path, metadata)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert info(error).reason == "TENANT_NOT_ALLOWED"
    assert guarded.engine.seen == []


async def test_without_authentication_the_metadata_names_the_tenant(running: Any) -> None:
    async with AsyncLeptonClient(running.target, metadata=[("x-lepton-tenant", "acme")]) as client:
        await client.complete("hi", max_tokens=2)
    assert running.engine.seen[0].options["tenant"] == "acme"
    for wrong in ("a b", "x" * 257):
        async with AsyncLeptonClient(running.target, metadata=[("x-lepton-tenant", wrong)]) as client:
            with pytest.raises(InvalidArgumentError, match="x-lepton-tenant"):
                await client.complete("hi", max_tokens=2)


async def test_tenants_may_use_the_same_request_id_at_once(guarded: Any, eventually: Any) -> None:
    guarded.engine.go.clear()
    async with (
        AsyncLeptonClient(guarded.target, token=OWN) as one,
        AsyncLeptonClient(guarded.target, token=ANOTHER) as other,
    ):
        streams = [client.generate("hi", max_tokens=2, request_id="mine") for client in (one, other)]
        for stream in streams:
            await stream.admitted()
        with pytest.raises(InvalidArgumentError, match="in flight"):
            await one.complete("hi", max_tokens=2, request_id="mine")
        guarded.engine.go.set()
        for stream in streams:
            assert "".join([text async for text in stream.texts()]) == "ab"


async def test_a_token_that_is_taken_back_ends_no_stream_and_begins_none(
    guarded: Any, tmp_path: Path, put: Any, token_lines: Callable[..., str]
) -> None:
    async with AsyncLeptonClient(guarded.target, token=OWN) as client:
        guarded.engine.go.clear()
        stream = client.generate("hi", max_tokens=2)
        await stream.admitted()
        put(tmp_path / "tokens", token_lines(beta=ANOTHER))
        with pytest.raises(PermissionError):
            await client.get_model()
        guarded.engine.go.set()
        assert "".join([text async for text in stream.texts()]) == "ab"


async def test_refusals_are_logged_without_the_token(guarded: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await call(guarded.target, "/lepton.v1.ModelService/GetModel", [("authorization", "Bearer secret-one")])
    await call(guarded.target, "/lepton.v1.ModelService/GetModel", [("authorization", "Basic secret-two")])
    async with AsyncLeptonClient(guarded.target, token=OWN) as client:
        await client.complete("hi", max_tokens=2)
    assert re.search(r"refused /lepton.v1.ModelService/GetModel from \S+: a bearer token that is not", caplog.text)
    assert "secret" not in caplog.text
    assert OWN not in caplog.text


async def test_jwts_from_end_to_end(run_front: Run, issuer: Any, jwt_options: JWTOptions) -> None:
    async with run_front(auth=AuthOptions(jwt=jwt_options)) as running:
        async with AsyncLeptonClient(running.target, token=issuer.token(sub="ann")) as client:
            await client.complete("hi", max_tokens=2)
        assert running.engine.seen[0].options["tenant"] == "ann"
        for token, reason, challenge in (
            (issuer.token(exp=1), "CREDENTIAL_EXPIRED", 'error="invalid_token", error_description="expired"'),
            (issuer.token(iss="x"), "CREDENTIAL_INVALID", 'error="invalid_token"'),
            (issuer.token(sub="a b"), "TENANT_NOT_ALLOWED", 'error="insufficient_scope"'),
        ):
            error = await call(
                running.target, "/lepton.v1.ModelService/GetModel", [("authorization", f"Bearer {token}")]
            )
            assert info(error).reason == reason
            assert info(error).metadata["www-authenticate"] == f'Bearer realm="lepton", {challenge}'


async def test_metadata_over_the_limit_is_refused_by_the_runtime(guarded: Any) -> None:
    for size in (1 << 15, 1 << 20):
        error = await call(
            guarded.target, "/lepton.v1.ModelService/GetModel", [("authorization", f"Bearer {'x' * size}")]
        )
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    async with AsyncLeptonClient(guarded.target, token=OWN) as client:
        assert (await client.get_model()).name


async def test_a_file_of_tokens_that_is_missing_stops_the_start(run_front: Run, tmp_path: Path) -> None:
    from lepton_service.auth import AuthConfigError

    with pytest.raises(AuthConfigError, match=f"token file {tmp_path}/tokens cannot be read: No such file"):
        async with run_front(auth=AuthOptions(tokens=tmp_path / "tokens")):
            pass
