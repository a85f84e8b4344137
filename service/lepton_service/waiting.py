"""Waiting for one of several events."""

import asyncio


async def any_set(*events: asyncio.Event, within: float | None = None) -> None:
    """Returns when one of the events is set, or after `within` seconds."""
    if any(event.is_set() for event in events):
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
