"""From an empty cluster to the first token."""

import time

import grpc

from lepton.v1 import generation_pb2_grpc
from tests.e2e.references import request
from tests.e2e.world import HOME, World, streaming

FIRST_TOKEN = 60.0


def first_token(target: str, seconds: float) -> None:
    """Returns when a server behind the target has given a token. Raises: AssertionError, when time is up."""
    deadline = time.monotonic() + seconds
    with grpc.insecure_channel(target) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        while True:
            try:
                for event in stub.Generate(request("Once upon a time", 1, 1), timeout=10, wait_for_ready=True):
                    if event.delta.token_ids:
                        return
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"no token within {seconds:g} s") from error


def test_from_an_empty_cluster_to_the_first_token(world: World) -> None:
    namespace = world.namespace("first")
    world.before = world.objects()
    began = time.monotonic()
    world.install()
    world.api.create(streaming("first", cpu="2", replicas=1), namespace)
    first_token(world.cluster.target("first-headless", namespace), 180)
    took = time.monotonic() - began
    world.figures.add("helm install + kubectl apply to the first token", f"{took:.1f} s", f"{FIRST_TOKEN:g} s")
    world.api.delete("LeptonModel", "first", namespace)
    assert took <= FIRST_TOKEN


def test_helm_test_passes(world: World) -> None:
    world.cluster.helm("test", "lepton", "--namespace", HOME)
