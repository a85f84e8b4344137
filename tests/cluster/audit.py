"""The API server's audit log: who wrote what, when."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_LINE = 1 << 20  # Longer than any line of the log.


@dataclass(frozen=True)
class Write:
    """One write that the API server answered.

    Attributes:
        user, agent: who. verb: create, update, patch, delete, deletecollection.
        resource: plural, with its subresource as deployments/scale. received, done: when, in seconds since the epoch.
        code: HTTP status of the answer.
    """

    user: str
    agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    received: float
    done: float
    code: int

    @property
    def what(self) -> str:
        return f"{self.verb} {self.resource} {self.namespace}/{self.name}"


class Audit:
    """Reads the log; `mark()` and `since(mark)` cut it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """A place: the end of the last whole line of the log now."""
        end = self._path.stat().st_size
        with open(self._path, "rb") as file:
            start = max(0, end - _LINE)
            file.seek(start)
            return start + file.read(end - start).rfind(b"\n") + 1

    def since(self, mark: int = 0) -> Iterator[Write]:
        """The writes logged after that place."""
        with open(self._path, "rb") as file:
            file.seek(mark)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # Being written.
                yield _write(json.loads(line))


def _write(event: dict[str, object]) -> Write:
    found = event.get("objectRef") or {}
    user = event.get("user") or {}
    answer = event.get("responseStatus") or {}
    assert isinstance(found, dict)
    assert isinstance(user, dict)
    assert isinstance(answer, dict)
    subresource = found.get("subresource")
    return Write(
        user=str(user.get("username", "")),
        agent=str(event.get("userAgent", "")),
        verb=str(event["verb"]),
        resource=str(found.get("resource", "")) + (f"/{subresource}" if subresource else ""),
        namespace=str(found.get("namespace", "")),
        name=str(found.get("name", "")),
        received=_time(str(event["requestReceivedTimestamp"])),
        done=_time(str(event["stageTimestamp"])),
        code=int(answer.get("code", 0)),
    )


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
