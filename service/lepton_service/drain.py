"""The end of a server in the order that cuts no stream which fits the drain time.

1. The named services turn NOT_SERVING, the overall one stays SERVING; new calls are still taken for the propagation
   time, while clients and endpoints learn (refusing first would give errors where GOAWAY alone gives none).
2. The inference server ends its own streams and sends GOAWAY; running calls go on until they end, or to the timeout.
   Attachments that take calls (the HTTP port) do the same beside it.
3. The control server and the observers (metrics) end: until then they have told that this server drains.
4. The engine ends.
"""

import asyncio
import logging
from collections.abc import Sequence

from lepton_service.attachments import Attachment
from lepton_service.engine_api import Engine
from lepton_service.options import ServerOptions
from lepton_service.server import Listener
from lepton_service.state import ServerState
from lepton_service.waiting import any_set

_log = logging.getLogger("lepton.drain")


async def drain(
    state: ServerState,
    inference: Listener,
    control: Listener | None,
    options: ServerOptions,
    now: asyncio.Event,
    attachments: Sequence[Attachment] = (),
    observers: Sequence[Attachment] = (),
) -> bool:
    """Drains both servers and ends the engine.

    Args:
        now: cuts the drain short when it is set: what still runs is cancelled, the engine's process killed.
        attachments: drain with the inference server. observers: end after it.

    Returns:
        Whether every call ended by itself.
    """
    state.mark_draining()
    _log.info("draining: new calls are taken for another %g s", options.drain_propagation)
    await any_set(now, within=options.drain_propagation)
    clean = False
    if not now.is_set():
        _log.info("draining: waiting %g s at most for %d calls", options.drain_timeout, inference.tracker.count)
        stopping = asyncio.ensure_future(_stop(inference, attachments, options.drain_timeout))
        cut = asyncio.ensure_future(now.wait())
        await asyncio.wait({stopping, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        clean = stopping.done() and stopping.result()
    if not clean:
        _log.warning("draining: cut short, %d calls are cancelled", inference.tracker.count)
        await inference.cancel()
        for attachment in attachments:
            await attachment.stop(0.0)
    if control is not None:
        await control.cancel()
    for observer in observers:
        await observer.stop(0.0)
    if state.engine is not None:
        await _end(state.engine, now)
    return clean


async def _end(engine: Engine, now: asyncio.Event) -> None:
    """Ends the engine; at once when it has been told to, also while a step of it hangs."""
    if now.is_set():
        engine.kill()
    ending = asyncio.ensure_future(engine.shutdown())
    cut = asyncio.ensure_future(now.wait())
    await asyncio.wait({ending, cut}, return_when=asyncio.FIRST_COMPLETED)
    if not ending.done():
        engine.kill()
    cut.cancel()
    await ending


async def _stop(inference: Listener, attachments: Sequence[Attachment], grace: float) -> bool:
    others = asyncio.gather(*(attachment.stop(grace) for attachment in attachments))
    clean = await inference.stop(grace)
    await others
    return clean
