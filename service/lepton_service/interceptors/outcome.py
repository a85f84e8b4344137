"""The status that a call has ended with."""

from typing import Any

import grpc


def outcome(context: Any, cancelled: bool) -> str:
    """Name of a call's status.

    Args:
        cancelled: whether its handler was: by the client, or by Core when the deadline passed.
    """
    if cancelled:
        remaining = context.time_remaining()
        return "CANCELLED" if remaining is None or remaining > 0 else "DEADLINE_EXCEEDED"
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "OK")
