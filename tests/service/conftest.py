"""A front end on loopback ports before an engine that is a fake: it makes up tokens and keeps books like the real."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from lepton_engine.errors import DeadlineExceededError, InvalidRequestError, LeptonError
from lepton_engine.messages import EngineStats, ModelInfo
from lepton_engine.outputs import CompletionOutput, Logprob, Logprobs, RequestMetrics, RequestOutput, ScoreOutput
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_service.app import FrontEnd
from lepton_service.client import AsyncLeptonClient
from lepton_service.options import ServerOptions

BLOCK = 4
BLOCKS = 1000


class FakeTokenizer:
    """A byte a token. Its chat template writes `<role>content` and rejects the role `tool`."""

    vocab_size = 256
    chat_template: object | None = "fake"
    special_ids = frozenset({0, 255})

    def token_to_id(self, token: str) -> int | None:
        return None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = list(text.encode())
        return [0, *ids] if add_special_tokens else ids

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return bytes(token for token in token_ids if token or not skip_special_tokens).decode(errors="replace")

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **template_args: Any,
    ) -> str:
        if any(message["role"] == "tool" for message in messages):
            raise InvalidRequestError("messages", "the chat template rejects them: no tools here")
        text = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        extra = "".join(f"[{key}={value}]" for key, value in sorted(template_args.items()))
        offered = "".join(f"[{tool['function']['name']}]" for tool in tools or ())
        return offered + extra + text + ("<assistant>" if add_generation_prompt else "")


@dataclass
class Job:
    """A request that the fake runs."""

    prompt: list[int]
    params: SamplingParams
    options: dict[str, Any]
    made: int = 0
    news: list[int] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def blocks(self) -> int:
        return -(-(len(self.prompt) + self.made) // BLOCK)


class FakeEngine:
    """Makes the tokens a, b, c, ... one at a time. `go` cleared holds all requests.

    `refusal` refuses the next ones, `failure` fails those that run, `failures` some by id.
    """

    def __init__(self) -> None:
        self.tokenizer = FakeTokenizer()
        self.go = asyncio.Event()
        self.go.set()
        self.loaded = asyncio.Event()
        self.loaded.set()
        self.admit = asyncio.Event()
        self.admit.set()
        self.load_error: LeptonError | None = None
        self.refusal: Exception | None = None
        self.failure: Exception | None = None
        self.failures: dict[str, Exception] = {}
        self.dead: LeptonError | None = None
        self.jobs: list[Job] = []
        self.seen: list[Job] = []
        self.finished = self.aborted = self.outputs = 0
        self.ended = False
        self.model_info = ModelInfo(
            family="fake",
            dtype="float32",
            device="cpu",
            max_model_len=4096,
            vocab_size=256,
            num_parameters=7,
            weight_bytes=28,
            block_size=BLOCK,
            num_kv_blocks=BLOCKS,
            kv_cache_bytes=1000,
            max_num_seqs=256,
            max_num_batched_tokens=1024,
            eos_token_ids=[255],
            default_sampling={},
            load_seconds=0.0,
        )

    def describe(self, **fields: Any) -> None:
        """Changes what the engine says of its model."""
        self.model_info = msgspec.structs.replace(self.model_info, **fields)

    async def start(self) -> None:
        await self.loaded.wait()
        if self.load_error is not None:
            raise self.load_error

    async def generate(
        self, prompt: str | list[int], params: SamplingParams, **options: Any
    ) -> AsyncIterator[RequestOutput]:
        if self.refusal is not None:
            raise self.refusal
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        job = Job(ids, params, options)
        self.jobs.append(job)
        self.seen.append(job)
        maker = asyncio.create_task(self._make(job))
        finished = False
        metrics = RequestMetrics(arrival_time=time.time())
        base = RequestOutput(
            options.get("request_id") or "made", None, ids, [], False, 0, params.seed or 5, None, metrics
        )
        try:
            await self.admit.wait()
            if params.output_kind is OutputKind.DELTA:
                yield base
            total = min(params.max_tokens or 1 << 30, self.model_info.max_model_len - len(ids))
            sent = 0
            while not finished:
                await self._news(job, options.get("deadline"))
                failure = self.failure or self.failures.get(base.request_id)
                if failure is not None:
                    raise failure
                news, job.news = job.news, []
                sent += len(news)
                finished = sent == total
                self.outputs += 1
                outputs = [self._part(index, news, params, finished) for index in range(params.n)]
                if params.prompt_logprobs is not None:
                    base.prompt_logprobs = [None, *({token: Logprob(-1.0, 1)} for token in ids[1:])]
                metrics.first_scheduled_time = metrics.first_token_time = metrics.finished_time = time.time()
                if params.output_kind is OutputKind.DELTA or finished:
                    if params.output_kind is OutputKind.FINAL_ONLY:
                        made = [self._token(number) for number in range(total)]
                        outputs = [self._part(index, made, params, True) for index in range(params.n)]
                    yield fresh_output(base, outputs, finished)
            self.finished += 1
        finally:
            maker.cancel()
            self.jobs.remove(job)
            if not finished:
                self.aborted += 1

    async def score(self, prompt: str | list[int], *, top: int = 0, **options: Any) -> ScoreOutput:
        """Token t at position p has the log-probability -(p + t / 1000), rank 1; its alternatives are 0, 1, ..."""
        if self.refusal is not None:
            raise self.refusal
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        job = Job(ids, SamplingParams(prompt_logprobs=top), options)
        self.jobs.append(job)
        self.seen.append(job)
        finished = False
        try:
            deadline = options.get("deadline")
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
                await self.go.wait()
            if self.failure is not None:
                raise self.failure
            self.finished += 1
            finished = True
        except TimeoutError as error:
            raise DeadlineExceededError("the deadline has passed") from error
        finally:
            self.jobs.remove(job)
            self.aborted += not finished
        rows: list[Logprobs | None] = [None]
        for position, token in enumerate(ids[1:], 1):
            row = {other: Logprob(-float(other + 1), other + 2) for other in range(top)}
            rows.append({**row, token: Logprob(-(position + token / 1000), 1)})
        own = [None if row is None else row[token].logprob for token, row in zip(ids, rows, strict=True)]
        return ScoreOutput(options.get("request_id") or "made", ids, own, rows, RequestMetrics(1.0, 2.0, None, 4.0))

    async def _news(self, job: Job, deadline: float | None) -> None:
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.timeout(remaining):
                while not job.news:
                    job.arrived.clear()
                    await job.arrived.wait()
        except TimeoutError as error:
            raise DeadlineExceededError("the deadline has passed") from error

    async def _make(self, job: Job) -> None:
        total = min(job.params.max_tokens or 1 << 30, self.model_info.max_model_len - len(job.prompt))
        while job.made < total:
            await self.go.wait()
            job.news.append(self._token(job.made))
            job.made += 1
            job.arrived.set()
            await asyncio.sleep(0)

    @staticmethod
    def _token(number: int) -> int:
        return 97 + number % 26

    def _part(self, index: int, ids: list[int], params: SamplingParams, finished: bool) -> CompletionOutput:
        logprobs = None
        if params.logprobs is not None:
            logprobs = [{token: Logprob(-0.5, 1), 1: Logprob(-2.0, 2), 2: Logprob(-3.0, 3)} for token in ids]
        return CompletionOutput(
            index, bytes(ids).decode(), list(ids), logprobs, None, "length" if finished else None, None
        )

    async def stats(self) -> EngineStats:
        if self.dead is not None:
            raise self.dead
        used = sum(job.blocks for job in self.jobs)
        zero: dict[str, Any] = dict.fromkeys(EngineStats.__struct_fields__, 0)
        return EngineStats(
            **{
                **zero,
                "num_running": len(self.jobs),
                "num_finished": self.finished,
                "num_aborted": self.aborted,
                "kv_blocks_total": BLOCKS,
                "kv_blocks_free": BLOCKS - used,
                "kv_blocks_referenced": used,
                "block_size": BLOCK,
                "mean_request_seconds": None,
            }
        )

    async def shutdown(self) -> None:
        self.ended = True

    def kill(self) -> None:
        self.ended = True


def fresh_output(base: RequestOutput, outputs: list[CompletionOutput], finished: bool) -> RequestOutput:
    """The output as the engine gives it: one of its own each time."""
    return RequestOutput(
        base.request_id,
        base.prompt,
        base.prompt_token_ids,
        outputs,
        finished,
        base.num_cached_tokens,
        base.seed,
        base.prompt_logprobs,
        base.metrics,
    )


@dataclass
class Running:
    """A front end that runs, its engine, and a client of it."""

    front: FrontEnd
    engine: FakeEngine
    client: AsyncLeptonClient
    life: asyncio.Task[int]

    @property
    def target(self) -> str:
        assert self.front.inference is not None
        return f"127.0.0.1:{self.front.inference.port}"

    @property
    def control(self) -> str:
        assert self.front.control is not None
        return f"127.0.0.1:{self.front.control.port}"


Run = Callable[..., Any]


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits until the condition holds; the test's time limit bounds it."""
    while not condition():  # noqa: ASYNC110 (nobody sets an event for what a test wants to see)
        await asyncio.sleep(0.002)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[[Callable[[], bool]], Any]:
    return eventually


@pytest.fixture
def fake_engine() -> type[FakeEngine]:
    return FakeEngine


@pytest.fixture
def run_front() -> Run:
    """A context manager that runs a front end: `async with run_front(engine, **options) as running`."""

    @asynccontextmanager
    async def run(engine: FakeEngine | None = None, ready: bool = True, **options: Any) -> AsyncIterator[Running]:
        engine = engine or FakeEngine()
        defaults = {"port": 0, "control_port": 0, "drain_propagation": 0.0, "drain_timeout": 30.0}
        front = FrontEnd(ServerOptions(**{**defaults, **options}), "fake-model", lambda: _made(engine))
        await front.start()
        life = asyncio.create_task(front.run())
        assert front.inference is not None
        # Without retries: tests see each status as the server gives it.
        client = AsyncLeptonClient(f"127.0.0.1:{front.inference.port}", retry=False)
        try:
            if ready:
                await eventually(lambda: front.state.engine is not None and front.state.phase.name == "READY")
            yield Running(front, engine, client, life)
        finally:
            await client.close()
            front.stop.signal()
            front.stop.signal()
            await life

    return run


async def _made(engine: FakeEngine) -> FakeEngine:
    return engine


@pytest.fixture
async def running(run_front: Run) -> AsyncIterator[Running]:
    async with run_front() as front:
        yield front
