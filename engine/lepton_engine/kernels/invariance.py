"""Whether kernels must give each row of a batch what it would get alone, as a state of the calling thread."""

import contextlib
import threading
from collections.abc import Iterator


class _State(threading.local):
    on = False


_state = _State()


def batch_invariant() -> bool:
    """Whether the thread is inside `batch_invariance(True)`."""
    return _state.on


@contextlib.contextmanager
def batch_invariance(on: bool) -> Iterator[None]:
    """Kernels called inside use, if on, one tile shape and one order of additions for any number of rows."""
    before = _state.on
    _state.on = on
    try:
        yield
    finally:
        _state.on = before
