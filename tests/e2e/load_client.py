"""The client under load, a process of its own: `python -m tests.e2e.load_client PLAN`.

One channel, round_robin over all addresses of its target, and no retry policy: what a server refuses is seen. It keeps
as many streams open as its standard input asks for, begins a new one when one ends, and tells of each on its standard
output. At `finish` it begins no more, and ends when the last one has.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import grpc

from lepton.v1 import generation_pb2_grpc
from lepton.v1.generation_pb2 import FinishReason
from lepton_service.client.channel import channel_options
from tests.e2e.plan import Plan, Record
from tests.e2e.references import Reference, request

ROUND_ROBIN: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
HEALTH = {"healthCheckConfig": {"serviceName": "lepton.v1.GenerationService"}}
FEWEST = 8
AFTER_FAILURE = 0.25
"""Seconds after which a stream that failed is followed by another: servers that are away are not called in a loop."""


class Pace:
    """Tokens a second of one stream, as they are now."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._tokens, self._since = 0, time.monotonic()

    def add(self, tokens: int) -> None:
        self._tokens += tokens

    def tick(self, streams: int) -> None:
        """Takes what has come since the last tick, of so many streams, into the rate."""
        now = time.monotonic()
        if streams and self._tokens:
            self.rate += 0.2 * (self._tokens / (now - self._since) / streams - self.rate)
        self._tokens, self._since = 0, now


class Client:
    """Keeps streams open."""

    def __init__(self, plan: Plan, channel: grpc.aio.Channel) -> None:
        self._plan = plan
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)
        self._random = random.Random(plan.name)
        self._pace = Pace(plan.rate)
        self._wanted = plan.streams
        self._finishing = False
        self._changed = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._number = 0

    async def run(self) -> None:
        """Returns when it was told to finish and the last stream has ended."""
        commands = asyncio.create_task(self._listen())
        pacing = asyncio.create_task(self._keep_pace())
        while not (self._finishing and not self._open):
            self._changed.clear()
            while not self._finishing and len(self._open) < self._wanted:
                self._begin()
            await self._changed.wait()
        pacing.cancel()
        commands.cancel()

    def _begin(self) -> None:
        self._number += 1
        reference = self._random.choice(self._plan.references)
        seconds = self._random.uniform(*self._plan.seconds)
        if self._number <= self._wanted:  # The first ones end at different times, as later ones do.
            seconds *= self._random.uniform(0.2, 1)
        tokens = max(FEWEST, min(len(reference.token_ids), round(seconds * self._pace.rate)))
        task = asyncio.create_task(self._stream(f"{self._plan.name}-{self._number}", reference, tokens))
        self._open.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._changed.set()
        task.result()

    async def _stream(self, name: str, reference: Reference, tokens: int) -> None:
        """One call to its end."""
        asked = request(reference.prompt, reference.seed, tokens)
        asked.request_id = name
        began, clock = time.time(), time.monotonic()
        first: float | None = None
        ids: list[int] = []
        text, reason, code, details = "", FinishReason.FINISH_REASON_UNSPECIFIED, "OK", ""
        try:
            async for event in self._stub.Generate(asked):
                if event.delta.token_ids:
                    if first is None:
                        first = time.monotonic() - clock
                    ids.extend(event.delta.token_ids)
                    text += event.delta.text
                    self._pace.add(len(event.delta.token_ids))
                elif event.delta.text:
                    text += event.delta.text
                elif event.HasField("finished"):
                    reason = event.finished.reason
        except grpc.aio.AioRpcError as error:
            code, details = error.code().name, error.details() or ""
        seconds = time.monotonic() - clock
        problem = "" if code != "OK" else reference.problem(tokens, ids, text)
        if code == "OK" and not problem and reason != FinishReason.FINISH_REASON_LENGTH:
            problem = f"it ended with {FinishReason.Name(reason)}"
        _say(Record(name, began, first, seconds, tokens, len(ids), code, details, problem))
        if code != "OK":
            await asyncio.sleep(AFTER_FAILURE)

    async def _keep_pace(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._pace.tick(len(self._open))

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            command: dict[str, Any] = json.loads(line)
            self._wanted = command.get("streams", self._wanted)
            self._finishing = command.get("finish", self._finishing)
            self._changed.set()
        self._finishing, self._wanted = True, 0  # Whoever started it is gone.
        for task in self._open:
            task.cancel()


def _say(record: Record) -> None:
    print(json.dumps(record.json()), flush=True)


async def main(plan: Plan) -> None:
    """Loads the plan's target."""
    options = [option for option in channel_options() if option[0] != "grpc.service_config"]
    options.append(("grpc.service_config", json.dumps(ROUND_ROBIN | (HEALTH if plan.watches_health else {}))))
    async with grpc.aio.insecure_channel(plan.target, options=options) as channel:
        await Client(plan, channel).run()


if __name__ == "__main__":
    asyncio.run(main(Plan.read(Path(sys.argv[1]))))
