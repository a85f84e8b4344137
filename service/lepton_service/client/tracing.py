"""The caller's trace goes along with its calls."""

import sys


def trace_context() -> tuple[tuple[str, str], ...]:
    """Metadata that names the trace which the caller is in: traceparent, tracestate, baggage (W3C).

    Empty where the program has not imported OpenTelemetry, or is in no trace.
    """
    if "opentelemetry.context" not in sys.modules:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple((key.lower(), value) for key, value in carrier.items())
