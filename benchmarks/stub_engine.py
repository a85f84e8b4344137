"""A stub in the place of the engine's process, and a front end before it: what the service costs, without a model.

    python -m benchmarks.stub_engine engine FOLDER --rate 20     paces made-up tokens over the real transport
    python -m benchmarks.stub_engine front FOLDER                the real front end, joined to it

The stub speaks the engine's messages over the engine's own socket. Like a step, each beat gives every running request
one token. A token's id is the time at which it was sent (`stamp`), so that a client sees how long it was on its way.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.served import Log, ended

TICK = 50e-6
FIRST_ID, IDS = 10, 3000  # ids that the embedded model's tokenizer has, none of them special
WRAP = TICK * IDS  # 150 ms: what takes longer cannot be told from less


def stamp() -> int:
    """Now, as a token id."""
    return FIRST_ID + int(time.monotonic() / TICK) % IDS


def age(token: int) -> float:
    """Seconds since a token's stamp, modulo `WRAP`."""
    return (time.monotonic() / TICK - (token - FIRST_ID)) % IDS * TICK


def engine(folder: Path, rate: float) -> None:
    """Answers like the engine's process until standard input closes.

    Args:
        rate: tokens a second of each request; 0 admits requests and then says nothing.
    """
    from lepton_engine.core.events import NewTokens, Started
    from lepton_engine.messages import Abort, Admitted, Answer, EngineStats, ModelInfo, Query, Ready, Replies, Submit
    from lepton_engine.process.progress import Progress
    from lepton_engine.process.worker import RouterTransport

    threading.Thread(target=_end_with_parent, daemon=True).start()
    transport = RouterTransport(f"ipc://{folder / 'engine'}", Progress(folder / "progress", create=True))
    info: dict[str, Any] = zeros(ModelInfo)
    info |= {"family": "stub", "dtype": "none", "device": "none", "max_model_len": 1 << 24, "vocab_size": 3072}
    info |= {"max_num_seqs": 4096, "eos_token_ids": [], "default_sampling": {}}
    transport.greeting = [Ready(ModelInfo(**info))]
    zero: dict[str, Any] = zeros(EngineStats)
    jobs: dict[str, tuple[str, int]] = {}
    period = 1 / rate if rate else 3600.0
    due = time.monotonic() + period
    while True:
        for client, command in transport.receive(max(0.0, due - time.monotonic())):
            if isinstance(command, Submit):
                jobs[command.key] = (client, command.max_tokens)
                started = Started(command.key, 0, time.time())
                transport.send_replies(client, [Admitted(command.key), started])
            elif isinstance(command, Abort):
                jobs.pop(command.key, None)
            elif isinstance(command, Query):
                stats = EngineStats(**{**zero, "num_running": len(jobs), "kv_blocks_total": 1, "kv_blocks_free": 1})
                transport.send_replies(client, [Answer(command.number, stats, [])])
        now = time.monotonic()
        if now < due:
            continue
        due = max(due + period, now)
        replies: dict[str, Replies] = {}
        for key, (client, left) in list(jobs.items()):
            end = "length" if left <= 1 else None
            replies.setdefault(client, []).append(NewTokens(key, 0, [stamp()], None, end, None, time.time()))
            if end is None:
                jobs[key] = (client, left - 1)
            else:
                del jobs[key]
        for client, told in replies.items():
            transport.send_replies(client, told)


def zeros(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Nought for every field of a message that has no default."""
    return {field.name: 0 for field in msgspec.structs.fields(kind) if field.required}


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def front(folder: Path) -> int:
    """Serves the stub on free ports until SIGTERM."""
    import logging

    from lepton_engine import embedded
    from lepton_engine.engine import AsyncLeptonEngine
    from lepton_engine.process.options import ProcessOptions
    from lepton_service.app import serve
    from lepton_service.commands.serve import loop_factory
    from lepton_service.options import ServerOptions

    logging.basicConfig(level="INFO", stream=sys.stderr)
    joined = ProcessOptions(address=f"ipc://{folder / 'engine'}", client="stub")

    async def make_engine() -> AsyncLeptonEngine:
        return AsyncLeptonEngine(embedded.path(), in_process=False, process=joined)

    options = ServerOptions(port=0, control_port=0, drain_propagation=0.0, drain_timeout=1.0, max_connection_age=None)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(serve(options, "stub", make_engine))


@contextmanager
def stub_serving(rate: float) -> Iterator[tuple[str, psutil.Process]]:
    """Both processes: the inference address and the front end's process."""
    with tempfile.TemporaryDirectory(prefix="lepton-stub-") as folder:
        command = [sys.executable, "-m", "benchmarks.stub_engine"]
        stub = subprocess.Popen([*command, "engine", folder, "--rate", str(rate)], stdin=subprocess.PIPE)
        server = subprocess.Popen([*command, "front", folder], stderr=subprocess.PIPE, text=True)
        try:
            with ended(server):
                log = Log(server)
                address = log.wait_for(r"inference on (\S+)")
                log.wait_for(r"model (\S+) is ready")
                yield address, psutil.Process(server.pid)
        finally:
            assert stub.stdin is not None
            stub.stdin.close()
            stub.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=["engine", "front"])
    parser.add_argument("folder", type=Path, help="where the socket lies")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of each request; 0 for silence")
    args = parser.parse_args()
    if args.role == "front":
        return front(args.folder)
    engine(args.folder, args.rate)
    return 0


if __name__ == "__main__":
    sys.exit(main())
