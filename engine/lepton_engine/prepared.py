"""A request between its validation and its end, on the front door's side."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lepton_engine.assembly import RequestAssembler
from lepton_engine.backlog import MAX_UNREAD_BYTES, Backlog
from lepton_engine.core.events import Event
from lepton_engine.errors import InvalidRequestError, LeptonError, SlowReaderError
from lepton_engine.messages import Admitted, Submit


def _nothing() -> None:
    """What is given up before the engine knows of it."""


class PreparedRequest:
    """A validated request on its way: its message, its assembler, and the events that have come.

    Attributes:
        give_up: ends the request in the engine, when more has come than may wait for who follows it.
    """

    def __init__(self, submit: Submit, assembler: RequestAssembler, max_unread: int = MAX_UNREAD_BYTES) -> None:
        self.submit = submit
        self.assembler = assembler
        self.backlog = Backlog(max_unread)
        self.max_unread = max_unread
        self.give_up: Callable[[], None] = _nothing
        self.failure: LeptonError | None = None
        self.arrived = asyncio.Event()

    def on_event(self, event: Admitted | Event) -> None:
        """Keep an event and wake who follows the request."""
        if not self.backlog.put(event):
            self.backlog.take()
            self.failure = SlowReaderError(
                f"more than {self.max_unread} bytes of output were left unread: the request is ended"
            )
            self.give_up()
        self.arrived.set()

    def on_death(self, error: LeptonError) -> None:
        """Keep the reason why the engine has ended, and wake who follows the request."""
        self.failure = error
        self.arrived.set()


def check_times(deadline: float | None, options: Mapping[str, Any]) -> None:
    """See that the times of a request are such.

    Raises:
        InvalidRequestError: one of them is not.
    """
    if deadline is not None and not math.isfinite(deadline):
        raise InvalidRequestError("deadline", f"{deadline!r} is not a time in `time.monotonic` seconds")
    for name in ("time_limit", "max_queue_time"):
        value = options.get(name)
        if value is not None and not 0 <= value < math.inf:
            raise InvalidRequestError(name, f"{value!r} is not a time of at least 0 seconds")


def checked_ids(token_ids: Sequence[int], vocab_size: int) -> list[int]:
    """A prompt of token ids.

    Raises:
        InvalidRequestError: one of them is no token of the model.
    """
    ids = list(token_ids)
    for position, token_id in enumerate(ids):
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < vocab_size:
            raise InvalidRequestError(
                "prompt", f"token id {token_id!r} at position {position} is outside the vocabulary of {vocab_size}"
            )
    return ids
