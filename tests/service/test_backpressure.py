"""A reader that does not read: what waits for it is bounded, and its request is released at once when it goes."""

from collections.abc import Callable
from typing import Any

import grpc
import h2.events
import psutil
import pytest

from lepton.v1 import generation_pb2_grpc
from lepton_engine import embedded
from lepton_engine.core.events import NewTokens, Started, TokenLogprobs
from lepton_engine.engine import AsyncLeptonEngine
from lepton_engine.errors import SlowReaderError
from lepton_engine.messages import Abort, Admitted, Submit
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_service.client import generate_request
from tests.service.raw import RawCall

METHOD = "/lepton.v1.GenerationService/Generate"
MIB = 2**20
Eventually = Callable[..., Any]


async def test_a_window_that_is_full_stops_the_writing(running: Any, eventually: Eventually) -> None:
    """HTTP/2's window holds the server back: `write` waits, and the front end stops taking from the engine."""
    running.engine.describe(max_model_len=1_000_000)
    request = generate_request("hi", max_tokens=50_000)
    async with RawCall(running.target, METHOD, request.SerializeToString(), window=2000) as call:
        await call.until(h2.events.DataReceived)
        await eventually(lambda: running.engine.jobs[0].made == 50_000)
        assert running.engine.outputs < 5000
        assert call.received <= 2000
        assert running.front.inference.tracker.count == 1


async def test_a_client_that_goes_during_a_blocked_write_is_released(running: Any, eventually: Eventually) -> None:
    running.engine.describe(max_model_len=1_000_000)
    request = generate_request("hi", max_tokens=500_000)
    async with RawCall(running.target, METHOD, request.SerializeToString(), window=2000) as call:
        await call.until(h2.events.DataReceived)
        blocked = -1
        while blocked != running.engine.outputs:  # the writer stands still while tokens go on being made
            blocked, made = running.engine.outputs, running.engine.jobs[0].made
            await eventually(lambda made=made: running.engine.jobs[0].made > made + 1000)
    await eventually(lambda: running.engine.jobs == [] and running.front.inference.tracker.count == 0)
    assert running.engine.aborted == 1
    assert running.engine.outputs == blocked


async def test_cancelling_during_a_blocked_write_is_released(running: Any, eventually: Eventually) -> None:
    running.engine.describe(max_model_len=1_000_000)
    window = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(running.target, options=window) as channel:
        call: Any = generation_pb2_grpc.GenerationServiceStub(channel).Generate(
            generate_request("hi", max_tokens=500_000)
        )
        await call.initial_metadata()
        await eventually(lambda: running.engine.jobs[0].made > 20_000)
        call.cancel()
        await eventually(lambda: running.engine.jobs == [] and running.front.inference.tracker.count == 0)
    assert running.engine.aborted == 1


class Pouring:
    """Carries nothing anywhere: hands made-up tokens to the request that was submitted last."""

    def __init__(self) -> None:
        self.key = ""
        self.sent: list[Any] = []
        self.deliver: Callable[[Any], None]

    async def start(self, deliver: Callable[[Any], None], died: Any) -> None:
        self.deliver = deliver

    def send(self, command: Any) -> None:
        self.sent.append(command)
        if isinstance(command, Submit):
            self.key = command.key
            self.deliver([Admitted(self.key), Started(self.key, 0, 1.0)])

    def kill(self) -> None:
        """Nothing runs."""

    async def stop(self) -> None:
        """Nothing runs."""

    def pour(self, tokens: int, top: int) -> None:
        ids = list(range(10, 10 + top))
        for number in range(tokens):
            entry = [TokenLogprobs(-1.0, 1, list(ids), [float(-number)] * top)] if top else None
            self.deliver([NewTokens(self.key, 0, [10 + number % 100], entry, time=1.0)])


@pytest.fixture
def poured(monkeypatch: pytest.MonkeyPatch) -> tuple[AsyncLeptonEngine, Pouring]:
    """The engine's front door whose other side is a test."""
    carrier = Pouring()
    monkeypatch.setattr(AsyncLeptonEngine, "_make_carrier", lambda *_: carrier)
    engine = AsyncLeptonEngine(embedded.path(), in_process=False, max_unread_bytes=4 * MIB)
    monkeypatch.setattr(AsyncLeptonEngine, "model_info", Info())
    engine._connection._carrier = carrier
    return engine, carrier


class Info:
    """What the front door asks of a model."""

    max_model_len = 1 << 24
    vocab_size = 3072
    eos_token_ids: tuple[int, ...] = ()


@pytest.mark.parametrize("top", [0, 20])
async def test_what_waits_for_a_reader_is_bounded_whatever_was_asked_for(
    poured: tuple[AsyncLeptonEngine, Pouring], top: int
) -> None:
    """A million tokens, with and without log-probabilities, of which the reader takes none: 4 MiB at most are kept."""
    engine, carrier = poured
    await carrier.start(engine._connection._deliver, None)
    params = SamplingParams(max_tokens=1 << 20, logprobs=top or None, output_kind=OutputKind.DELTA)
    outputs = engine.generate([10, 11], params)
    await anext(outputs)
    before = psutil.Process().memory_info().rss
    carrier.pour(100_000 if top else 500_000, top)
    grown = psutil.Process().memory_info().rss - before
    assert grown < 16 * MIB
    assert [command for command in carrier.sent if isinstance(command, Abort)], "the engine works for nobody"
    with pytest.raises(SlowReaderError, match="4194304 bytes"):
        await anext(outputs)
