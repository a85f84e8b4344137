"""One line a call, without prompt or output text."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from lepton_service.calls import Call, current_call
from lepton_service.interceptors.wrapping import Behaviour, wrap

QUIET = ("/grpc.health.v1.", "/grpc.reflection.")

_log = logging.getLogger("lepton.access")


class AccessLogInterceptor(grpc.aio.ServerInterceptor):
    """Logs method, status, duration, peer, request id and token counts; probes and reflection at level DEBUG."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method

        def around(behaviour: Behaviour) -> Behaviour:
            async def logged(request: Any, context: Any) -> Any:
                call = Call(method=method, peer=context.peer())
                current_call.set(call)
                began = time.monotonic()
                cancelled = False
                try:
                    return await behaviour(request, context)
                except asyncio.CancelledError:
                    cancelled = True
                    raise
                finally:
                    level = logging.DEBUG if method.startswith(QUIET) else logging.INFO
                    if _log.isEnabledFor(level):
                        _log.log(level, _line(call, _code(context, cancelled), time.monotonic() - began))

            return logged

        return handler and wrap(handler, around)


def _code(context: Any, cancelled: bool) -> str:
    if cancelled:
        return "CANCELLED"
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "OK")


def _line(call: Call, code: str, seconds: float) -> str:
    parts = [f"method={call.method}", f"code={code}", f"ms={seconds * 1000:.1f}", f"peer={call.peer}"]
    if call.request_id:
        parts.append(f"request_id={call.request_id}")
    if call.prompt_tokens is not None:
        parts.append(f"prompt_tokens={call.prompt_tokens}")
    if call.generated_tokens is not None:
        parts.append(f"generated_tokens={call.generated_tokens}")
    return " ".join(parts)
