"""`make demo`: the server on the embedded model, several clients at once, a clean end.

Starts `lepton serve` on free loopback ports, streams two prompts and a question while other clients keep the server
busy, prints what each saw, stops the server by SIGTERM and checks that it drained cleanly.
"""

import asyncio
import re
import signal
import sys
import time
from dataclasses import dataclass

from lepton_service.client import AsyncLeptonClient

PROMPTS = {
    "Chinese": "我今天去了公园",
    "English": "On a sunny morning, Anna",
}
QUESTION = {"role": "user", "content": "你喜欢什么样的天气？"}
BACKGROUND_CLIENTS = 6
BACKGROUND_TOKENS = 48
START_SECONDS = 120.0
STOP_SECONDS = 60.0


@dataclass
class Measured:
    """What a client saw of its stream; times in seconds."""

    text: str
    tokens: int
    first_token: float
    total: float

    @property
    def rate(self) -> float:
        """Tokens per second after the first."""
        return (self.tokens - 1) / max(self.total - self.first_token, 1e-9)


async def main() -> int:
    """Run the demonstration; the exit code."""
    print("starting: lepton serve (the embedded model)")
    began = time.monotonic()
    command = [sys.executable, "-c", "from lepton_service.cli import main; raise SystemExit(main())", "serve"]
    options = ["--port", "0", "--control-port", "0", "--drain-propagation", "0"]
    server = await asyncio.create_subprocess_exec(*command, *options, stderr=asyncio.subprocess.PIPE)
    log: list[str] = []
    try:
        async with asyncio.timeout(START_SECONDS):
            address = await _until(server, log, r"inference on (\S+)")
            await _until(server, log, r"model \S+ is ready")
        print(f"serving on {address} after {time.monotonic() - began:.1f} s\n")
        reader = asyncio.create_task(_drain_log(server, log))
        await _talk(address)
        print("stopping: SIGTERM")
        server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            code = await server.wait()
        await reader
    except BaseException:
        print("\n".join(log), file=sys.stderr)
        raise
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
    print(f"the server drained and ended with exit code {code}")
    if code != 0:
        print("\n".join(log), file=sys.stderr)
    return code


async def _talk(address: str) -> None:
    """Stream the prompts while background clients keep the server busy."""
    async with AsyncLeptonClient(address, deadline=300.0) as client:
        background = [
            asyncio.create_task(_stream(client, f"背景 {index}: 今天", BACKGROUND_TOKENS, show=False, seed=index))
            for index in range(BACKGROUND_CLIENTS)
        ]
        rows = []
        for name, prompt in PROMPTS.items():
            print(f"[{name}] {prompt}", end="", flush=True)
            rows.append((name, await _stream(client, prompt, 64, show=True, seed=7)))
        print(f"[chat] {QUESTION['content']}\n       ", end="", flush=True)
        rows.append(("chat", await _stream(client, [QUESTION], 64, show=True, seed=7)))
        rows += [(f"background {i}", result) for i, result in enumerate(await asyncio.gather(*background))]
        stats = await client.stats()
    print(f"\n{'client':<14}{'tokens':>8}{'first token':>14}{'tokens/s':>11}")
    for name, seen in rows:
        print(f"{name:<14}{seen.tokens:>8}{seen.first_token * 1e3:>11.0f} ms{seen.rate:>11.1f}")
    blocks = f"{stats.kv_blocks_free} of {stats.kv_blocks_total} KV blocks free"
    print(f"\nafterwards: {stats.running} running, {stats.waiting} waiting, {blocks}")


async def _stream(
    client: AsyncLeptonClient, prompt: str | list[dict[str, str]], max_tokens: int, *, show: bool, seed: int
) -> Measured:
    began = time.monotonic()
    first, tokens, pieces = 0.0, 0, []
    call = client.generate(prompt, max_tokens=max_tokens, temperature=0.7, seed=seed, return_token_ids=True)
    async with call as stream:
        async for event in stream:
            if event.WhichOneof("event") != "delta":
                continue
            first = first or time.monotonic() - began
            tokens += len(event.delta.token_ids)
            pieces.append(event.delta.text)
            if show:
                print(event.delta.text, end="", flush=True)
    if show:
        print("\n")
    if not tokens:
        raise RuntimeError(f"no tokens came for {prompt!r}")
    return Measured("".join(pieces), tokens, first, time.monotonic() - began)


async def _until(server: asyncio.subprocess.Process, log: list[str], pattern: str) -> str:
    """Read the server's log up to a line that matches; its first group, or the whole match."""
    assert server.stderr is not None
    while line := (await server.stderr.readline()).decode(errors="replace").rstrip():
        log.append(line)
        if found := re.search(pattern, line):
            return found.group(found.lastindex or 0)
    raise RuntimeError(f"the server ended before it said {pattern!r}")


async def _drain_log(server: asyncio.subprocess.Process, log: list[str]) -> None:
    assert server.stderr is not None
    async for line in server.stderr:
        log.append(line.decode(errors="replace").rstrip())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
