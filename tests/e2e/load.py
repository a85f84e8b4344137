"""A load of streams, from clients in processes of their own."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tests.e2e.plan import Plan, Record

ROOT = Path(__file__).parents[2]


class LoadError(AssertionError):
    """Streams that did not end well, or a client that did not do its work."""


class Load:
    """Clients that keep streams open; as a context manager it ends them whatever happens.

    Args:
        plan: of all clients together. processes: among how many it is shared.
    """

    def __init__(self, plan: Plan, processes: int = 1) -> None:
        self.plan = plan
        self.records: list[Record] = []
        self._news = threading.Condition()
        self._folder = tempfile.TemporaryDirectory(prefix="lepton-load-")
        self._clients: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        for number, streams in enumerate(shares(plan.streams, processes)):
            path = Path(self._folder.name) / f"{number}.json"
            replace(plan, name=f"{plan.name}-{number}", streams=streams).write(path)
            client = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.load_client", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            self._clients.append(client)
            self._readers.append(threading.Thread(target=self._read, args=(client,), daemon=True))
            self._readers[-1].start()

    def _read(self, client: subprocess.Popen[str]) -> None:
        assert client.stdout is not None
        for line in client.stdout:
            with self._news:
                self.records.append(Record(**json.loads(line)))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def streams(self, count: int) -> None:
        """From now on so many streams; above that number none is begun."""
        for client, share in zip(self._clients, shares(count, len(self._clients)), strict=True):
            self._tell(client, {"streams": share})

    def wait_for(self, enough: Callable[[Sequence[Record]], bool], what: str, seconds: float) -> None:
        """Returns when the records are as wished. Raises: LoadError when a client ends before, or time is up."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not enough(self.records):
                if any(client.poll() is not None for client in self._clients):
                    raise LoadError(f"a load client has ended before: {what}")
                if time.monotonic() > deadline:
                    raise LoadError(f"not within {seconds:g} s: {what}; {summary(self.records)}")
                self._news.wait(1)

    def finish(self, seconds: float = 180) -> list[Record]:
        """Begins no more streams, waits for the last one, and returns all. Raises: LoadError."""
        for client in self._clients:
            self._tell(client, {"finish": True})
        deadline = time.monotonic() + seconds
        for client, reader in zip(self._clients, self._readers, strict=True):
            try:
                status = client.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                message = f"streams are still open after {seconds:g} s; {summary(self.records)}"
                raise LoadError(message) from error
            reader.join()
            if status:
                raise LoadError(f"a load client ended with {status}")
        return self.records

    def close(self) -> None:
        """Ends the clients at once."""
        for client, reader in zip(self._clients, self._readers, strict=True):
            if client.poll() is None:
                client.kill()
            client.wait()
            reader.join()
            for pipe in (client.stdin, client.stdout):
                assert pipe is not None
                pipe.close()
        self._folder.cleanup()

    def __enter__(self) -> "Load":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _tell(client: subprocess.Popen[str], command: dict[str, object]) -> None:
        assert client.stdin is not None
        client.stdin.write(json.dumps(command) + "\n")
        client.stdin.flush()


def shares(streams: int, processes: int) -> list[int]:
    """So many streams in parts that differ by one at most."""
    return [(streams + number) // processes for number in range(processes)]


def summary(records: Sequence[Record]) -> str:
    """How they ended, in a line."""
    codes = Counter(record.code for record in records)
    found = ", ".join(f"{count} {code}" for code, count in sorted(codes.items())) or "none has ended"
    wrong = sum(1 for record in records if record.problem)
    return f"streams so far: {found}" + (f"; {wrong} with another text" if wrong else "")


def assert_good(records: Sequence[Record], least: int = 1) -> None:
    """All ended with OK and the undisturbed text, and there are enough of them to say so. Raises: LoadError."""
    bad = [record for record in records if not record.good]
    if bad:
        shown = [f"{r.name}: {r.code} {r.details} {r.problem} after {r.seconds:.1f} s" for r in bad[:5]]
        raise LoadError(f"{len(bad)} of {len(records)} streams did not end well, such as\n" + "\n".join(shown))
    if len(records) < least:
        raise LoadError(f"only {len(records)} streams have ended, at least {least} are needed to say anything")
