"""What waits for the one who follows a request: merged, and bounded. Imports no torch."""

import msgspec

from lepton_engine.core.events import Event, NewTokens
from lepton_engine.messages import Admitted

MAX_UNREAD_BYTES = 16 * 1024 * 1024

# What an event, a token and a log-probability take in memory, with some room.
_EVENT_BYTES, _TOKEN_BYTES, _ENTRY_BYTES = 200, 40, 72


class Backlog:
    """Events of a request in their order, those of one sequence's tokens merged with the ones before them.

    Args:
        limit: estimated bytes that may wait.
    """

    def __init__(self, limit: int = MAX_UNREAD_BYTES) -> None:
        self._limit = limit
        self._events: list[Admitted | Event] = []
        self._bytes = 0
        self._last: dict[int, int] = {}

    def put(self, event: Admitted | Event) -> bool:
        """Keep an event; whether all that waits is still within the limit."""
        if isinstance(event, NewTokens):
            tokens = len(event.token_ids)
            self._bytes += tokens * _TOKEN_BYTES
            if event.logprobs:
                self._bytes += sum(_EVENT_BYTES + _ENTRY_BYTES * len(entry.top_ids) for entry in event.logprobs)
            place = self._last.get(event.index)
            if place is not None:
                before = self._events[place]
                assert isinstance(before, NewTokens)
                if before.finish_reason is None and (before.logprobs is None) == (event.logprobs is None):
                    self._merge(place, before, event)
                    return self._bytes <= self._limit
            self._last[event.index] = len(self._events)
        self._events.append(event)
        self._bytes += _EVENT_BYTES
        return self._bytes <= self._limit

    def _merge(self, place: int, before: NewTokens, event: NewTokens) -> None:
        before.token_ids.extend(event.token_ids)
        if before.logprobs is not None and event.logprobs is not None:
            before.logprobs.extend(event.logprobs)
        if event.finish_reason is not None:
            ended = msgspec.structs.replace(
                event, token_ids=before.token_ids, logprobs=before.logprobs, time=before.time
            )
            self._events[place] = ended

    def take(self) -> list[Admitted | Event]:
        """All that waits; nothing does after."""
        events, self._events = self._events, []
        self._bytes = 0
        self._last.clear()
        return events
