"""What the engine's loop tells of itself out of band: memory that it shares with its parent.

Neither a hung step nor the death of the process hides it, and writing it costs the loop a microsecond. The layout, in
little-endian words of eight bytes: how often the loop has come round, whether the model is loaded, then the requests
of the step in flight: their number, how many steps of just these came before it, and for each its fingerprint (16
bytes) and how many tokens it had generated at the first of them.
"""

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

MAX_REQUESTS = 4096

_WORD = struct.Struct("<Q")
_ENTRY = struct.Struct("<16sQ")
_TURNS, _LOADED, _COUNT, _STEPS, _ENTRIES = 0, 8, 16, 24, 32
_SIZE = _ENTRIES + MAX_REQUESTS * _ENTRY.size


@dataclass(frozen=True)
class InFlight:
    """A request of the step in flight: the fingerprint of what it asks, and the tokens it had generated."""

    fingerprint: bytes
    num_generated: int


class Progress:
    """The shared memory; the parent creates it before the engine's process starts.

    Args:
        path: of the file that is mapped.
        create: whether to make it, empty.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        try:
            if create:
                os.ftruncate(descriptor, _SIZE)
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Give the mapping back."""
        self._memory.close()

    @property
    def turns(self) -> int:
        """How often the loop has come round."""
        return int(_WORD.unpack_from(self._memory, _TURNS)[0])

    @property
    def loaded(self) -> bool:
        """Whether the loop has begun."""
        return bool(_WORD.unpack_from(self._memory, _LOADED)[0])

    def turn(self) -> None:
        """The loop has come round."""
        _WORD.pack_into(self._memory, _TURNS, self.turns + 1)

    def mark_loaded(self) -> None:
        """The model is loaded, the loop begins."""
        _WORD.pack_into(self._memory, _LOADED, 1)

    def record(self, requests: list[tuple[bytes, int]]) -> None:
        """See `Recorder.record`; beyond the first `MAX_REQUESTS` they are left out."""
        kept = requests[:MAX_REQUESTS]
        _WORD.pack_into(self._memory, _COUNT, 0)
        _WORD.pack_into(self._memory, _STEPS, 0)
        data = b"".join([_ENTRY.pack(fingerprint, generated) for fingerprint, generated in kept])
        self._memory[_ENTRIES : _ENTRIES + len(data)] = data
        _WORD.pack_into(self._memory, _COUNT, len(kept))

    def again(self) -> None:
        """See `Recorder.again`."""
        _WORD.pack_into(self._memory, _STEPS, _WORD.unpack_from(self._memory, _STEPS)[0] + 1)

    def clear(self) -> None:
        """See `Recorder.clear`."""
        _WORD.pack_into(self._memory, _COUNT, 0)

    def in_flight(self) -> list[InFlight]:
        """The requests of the step in flight."""
        count = min(MAX_REQUESTS, _WORD.unpack_from(self._memory, _COUNT)[0])
        data = self._memory[_ENTRIES : _ENTRIES + count * _ENTRY.size]
        steps = int(_WORD.unpack_from(self._memory, _STEPS)[0])
        return [InFlight(fingerprint, generated + steps) for fingerprint, generated in _ENTRY.iter_unpack(data)]


class StallClock:
    """How long a counter has stood still, in seconds that this process was awake for.

    A process that was stopped, or a machine that slept, must not take its own absence for a hang of the other: a look
    that comes late counts for no more than twice the interval.

    Args:
        interval: seconds between two looks.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: tuple[int, float] | None = None
        self.stalled = 0.0

    def look(self, counter: int, now: float) -> float:
        """Take in the counter's value; for how long it has been this.

        Args:
            now: `time.monotonic` seconds.
        """
        if self._last is None or self._last[0] != counter:
            self.stalled = 0.0
        else:
            self.stalled += min(now - self._last[1], 2 * self._interval)
        self._last = (counter, now)
        return self.stalled
