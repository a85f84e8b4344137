"""Tokens that nobody waits for one by one: told in bunches, which spares a front end most of its wake-ups."""

import msgspec

from lepton_engine.core.events import Event, Failed, NewTokens
from lepton_engine.core.request import Request
from lepton_engine.sampling_params import OutputKind

SIZE = 64


class Bunches:
    """Requests that are answered when they are complete, and what has not been told of them yet.

    A sequence's first tokens are told at once, which is when its time to first token ends.
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[int, list[int]]] = {}
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def consider(self, request: Request) -> None:
        """A request is admitted. A stop string is looked for by the front end, which then needs every token."""
        params = request.params
        if params.output_kind is OutputKind.FINAL_ONLY and not params.stop and params.logprobs is None:
            self._held[request.key] = {}
            self._open[request.key] = params.n

    def pass_on(self, event: Event) -> Event | None:
        """What is to be told now that an event has happened; None if it can wait."""
        key = event.key
        held = self._held.get(key)
        if held is None:
            return event
        if isinstance(event, Failed):
            self._forget(key)
            return event
        if not isinstance(event, NewTokens):
            return event
        before = held.get(event.index)
        if before is not None:
            before += event.token_ids
            if event.finish_reason is None and len(before) < SIZE:
                return None
            event = msgspec.structs.replace(event, token_ids=before)
        held[event.index] = []
        if event.finish_reason is not None:
            self._open[key] -= 1
            if not self._open[key]:
                self._forget(key)
        return event

    def _forget(self, key: str) -> None:
        del self._held[key]
        del self._open[key]
