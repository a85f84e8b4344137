"""What a load client is asked to do, and what it tells."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.e2e.references import Reference


@dataclass(frozen=True)
class Plan:
    """A load.

    Attributes:
        name: begins the request ids. target: a gRPC target.
        streams: open at the same time. seconds: least and most that a stream shall take.
        rate: tokens a second of one stream, to begin with; later it is measured.
        watches_health: leaves a server that says it drains. For a target whose addresses do not change: otherwise calls
            come until GOAWAY, and gRPC cancels one that comes just then.
    """

    name: str
    target: str
    streams: int
    seconds: tuple[float, float]
    references: tuple[Reference, ...]
    rate: float = 15.0
    watches_health: bool = False

    def write(self, path: Path) -> None:
        """To a file."""
        path.write_text(json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> "Plan":
        """From a file."""
        found: dict[str, Any] = json.loads(path.read_text())
        references = tuple(Reference(r["prompt"], r["seed"], tuple(r["token_ids"])) for r in found.pop("references"))
        least, most = found.pop("seconds")
        return Plan(**found, seconds=(least, most), references=references)


@dataclass(frozen=True)
class Record:
    """A stream that has ended.

    Attributes:
        name: its request id. began: Unix time. first: seconds to the first token; None where none came.
        seconds: to its end. asked, tokens: tokens that it asked for, and that came.
        code, details: its gRPC status. problem: how its text differs from the undisturbed one; empty when it does not.
    """

    name: str
    began: float
    first: float | None
    seconds: float
    asked: int
    tokens: int
    code: str
    details: str
    problem: str

    @property
    def ended(self) -> float:
        """Unix time."""
        return self.began + self.seconds

    @property
    def good(self) -> bool:
        """Whether it ended with OK and the undisturbed text."""
        return self.code == "OK" and not self.problem

    def json(self) -> dict[str, Any]:
        """As an object."""
        return asdict(self)
