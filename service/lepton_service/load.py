"""A load generator over gRPC: what clients see of a server's latency and throughput."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lepton.v1.generation_pb2 import GenerateRequest, GenerateResponse
from lepton_service.client import AsyncLeptonClient, LeptonClientError, generate_request


@dataclass(frozen=True)
class Load:
    """What is asked of the server.

    Attributes:
        requests: how many in all. concurrency: how many at once.
        prompt_tokens, output_tokens: least and most of each, drawn evenly. End of sequence is ignored.
        shared_prefix: leading prompt tokens that are the same in all requests.
        rate: mean requests a second, arriving as a Poisson process; None sends the next when one has ended.
        temperature: of all requests.
        coalesce: tokens a message; 1 for every step's at once.
        seed: of prompts, lengths and arrivals.
    """

    requests: int = 64
    concurrency: int = 16
    prompt_tokens: tuple[int, int] = (128, 128)
    output_tokens: tuple[int, int] = (128, 128)
    shared_prefix: int = 0
    rate: float | None = None
    temperature: float = 0.0
    coalesce: int = 1
    seed: int = 0


@dataclass
class Sample:
    """One request as its client saw it. Times in seconds.

    Attributes:
        gaps: time between two messages, for each token of the later one, divided by their number.
        error: the status, where it failed.
    """

    prompt_tokens: int
    output_tokens: int = 0
    messages: int = 0
    first_token: float | None = None
    total: float = 0.0
    gaps: list[float] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class LoadResult:
    """All samples, the wall time, and the generator's own CPU time (user and system), in seconds."""

    samples: list[Sample]
    seconds: float
    client_cpu_seconds: float


def requests_of(load: Load, vocabulary: int) -> list[GenerateRequest]:
    """The requests of a load, with random token ids below `vocabulary`."""
    source = random.Random(load.seed)
    prefix = [source.randrange(vocabulary) for _ in range(load.shared_prefix)]
    made = []
    for _ in range(load.requests):
        length = source.randint(*load.prompt_tokens)
        own = [source.randrange(vocabulary) for _ in range(max(1, length - len(prefix)))]
        request = generate_request(
            [*prefix, *own],
            max_tokens=source.randint(*load.output_tokens),
            ignore_eos=True,
            temperature=load.temperature,
            seed=source.getrandbits(32),
        )
        if load.coalesce > 1:
            request.output.coalescing.max_tokens = load.coalesce
        made.append(request)
    return made


async def run_load(
    client: AsyncLeptonClient, load: Load, vocabulary: int, progress: Callable[[Sample], None] | None = None
) -> LoadResult:
    """Sends a load and measures it.

    Args:
        progress: called with each sample when its request has ended.
    """
    requests = requests_of(load, vocabulary)
    arrivals = random.Random(load.seed + 1)
    slots = asyncio.Semaphore(load.concurrency)
    samples: list[Sample] = []

    async def one(request: GenerateRequest) -> None:
        async with slots:
            sample = await _measure(client, request)
        samples.append(sample)
        if progress is not None:
            progress(sample)

    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(one(request))
            if load.rate is not None:
                await asyncio.sleep(arrivals.expovariate(load.rate))
    return LoadResult(samples, time.perf_counter() - began, time.process_time() - cpu)


async def _measure(client: AsyncLeptonClient, request: GenerateRequest) -> Sample:
    sample = Sample(prompt_tokens=len(request.token_ids.ids))
    began = last = time.perf_counter()
    try:
        event: GenerateResponse
        async for event in client.generate_from(request):
            if event.WhichOneof("event") != "delta":
                continue
            now = time.perf_counter()
            tokens = len(event.delta.token_ids)
            sample.messages += 1
            sample.output_tokens += tokens
            if sample.first_token is None:
                sample.first_token = now - began
            elif tokens:
                sample.gaps.extend([(now - last) / tokens] * tokens)
            last = now
    except LeptonClientError as error:
        sample.error = f"{error.code.name}: {error.message}"
    sample.total = time.perf_counter() - began
    return sample
