"""One line a call, without prompt or output text."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import asyncio
import logging
import time
from typing import Any

from lepton_engine.logs import Fields
from lepton_service.calls import Call, current_call
from lepton_service.interceptors.outcome import outcome
from lepton_service.interceptors.wrapping import Behaviour, WrappingInterceptor

QUIET = ("/grpc.health.v1.", "/grpc.reflection.", "/grpc.channelz.")

# The fields of a line, in order, and what they say; those that a call has nothing to say of are left out.
FIELDS = {
    "method": "the method's full name",
    "code": "gRPC status",
    "ms": "duration of the call in milliseconds",
    "peer": "the caller's address",
    "request_id": "id of the request",
    "tenant": "whose call it is",
    "trace_id": "of the call's trace, where it is recorded",
    "prompt_tokens": "tokens of the prompt",
    "cached_tokens": "of these, found in the prefix cache",
    "generated_tokens": "tokens generated, those of all choices",
    "finish_reason": "why the choices ended, by index, joined by commas",
    "queue_ms": "from arrival to the first step, in milliseconds",
    "first_token_ms": "from arrival to the first token, in milliseconds",
    "preemptions": "how often the request lost its memory to others",
    "joules": "energy that was spent for it, where it is measured",
}

_log = logging.getLogger("lepton.access")


class AccessLogInterceptor(WrappingInterceptor):
    """Logs every call when it has ended; probes, reflection and channelz at level DEBUG."""

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        """See `WrappingInterceptor.around`."""
        level = logging.DEBUG if method.startswith(QUIET) else logging.INFO

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
                if _log.isEnabledFor(level):
                    _log.log(level, line(call, outcome(context, cancelled), time.monotonic() - began))

        return logged


def line(call: Call, code: str, seconds: float) -> Fields:
    """What is logged of a call that took so many seconds."""
    values: dict[str, object] = {
        "method": call.method,
        "code": code,
        "ms": round(seconds * 1000, 1),
        "peer": call.peer,
        "request_id": call.request_id or None,
        "tenant": call.tenant or None,
        "trace_id": call.trace_id or None,
        "prompt_tokens": call.prompt_tokens,
        "cached_tokens": call.cached_tokens,
        "generated_tokens": call.generated_tokens,
        "finish_reason": ",".join(reason for _, reason in sorted(call.finish_reasons.items())) or None,
    }
    times = call.metrics
    if times is not None:
        if times.first_scheduled_time is not None:
            values["queue_ms"] = round((times.first_scheduled_time - times.arrival_time) * 1000, 1)
        if times.first_token_time is not None:
            values["first_token_ms"] = round((times.first_token_time - times.arrival_time) * 1000, 1)
        values["preemptions"] = times.num_preemptions or None
        values["joules"] = None if times.joules is None else round(times.joules, 4)
    return Fields("call", {key: value for key, value in values.items() if value is not None})
