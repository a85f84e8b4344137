"""Finding stop strings in a text that comes in pieces."""

import functools
from collections import deque

_ROOT = 0


class StopMatcher:
    """All stop strings as one automaton (Aho and Corasick, CACM 18(6), 1975): constant work per character.

    After any text, `depth[state]` is the length of its longest suffix that begins a stop string, which is exactly what
    has to be held back, and `match[state]` the length of the longest stop string that ends there.

    Use `StopMatcher.of`, which keeps automata that several requests share.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fail = [_ROOT]
        self.depth = [0]
        self.match = [0]
        for stop in stops:
            self._add(stop)
        self._link()
        # Behind a whole stop string that was not to end the text, only what another one may grow from is held back.
        self.held = [self._held(state) for state in range(len(self._next))]

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def of(stops: tuple[str, ...]) -> "StopMatcher":
        """The automaton for these stop strings."""
        return StopMatcher(stops)

    def step(self, state: int, character: str) -> int:
        """The state after one more character; the first state is 0."""
        following = self._next[state].get(character)
        while following is None:
            if state == _ROOT:
                return _ROOT
            state = self._fail[state]
            following = self._next[state].get(character)
        return following

    def _add(self, stop: str) -> None:
        state = _ROOT
        for character in stop:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._fail.append(_ROOT)
                self.depth.append(self.depth[state] + 1)
                self.match.append(0)
            state = self._next[state][character]
        self.match[state] = len(stop)

    def _link(self) -> None:
        queue = deque(self._next[_ROOT].values())
        while queue:
            state = queue.popleft()
            self.match[state] = self.match[state] or self.match[self._fail[state]]
            for character, child in self._next[state].items():
                self._fail[child] = self.step(self._fail[state], character)
                queue.append(child)

    def _held(self, state: int) -> int:
        while state != _ROOT and not self._next[state]:
            state = self._fail[state]
        return self.depth[state]
