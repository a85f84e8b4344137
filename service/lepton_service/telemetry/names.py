"""Every metric: its name, what it counts, and by which attributes. The documentation and the dashboard follow this."""

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

# Seconds. The conventions' boundaries (OpenTelemetry GenAI metrics) and, below them, what small models come to.
REQUEST_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48,
    40.96, 81.92, 163.84, 327.68,
)  # fmt: skip
FIRST_TOKEN_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0, 30.0, 60.0,
)  # fmt: skip
TOKEN_TIME_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4,
    0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
TOKEN_BUCKETS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
ENERGY_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 10000.0)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        unit: by UCUM. attributes: names; a tenant's comes only where tenants are told apart.
        buckets: upper bounds of a histogram.
    """

    name: str
    kind: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """Its name on the Prometheus page."""
        suffix = {"s": "_seconds", "J": "_joules", "{token}/s": "_per_second"}.get(self.unit, "")
        return self.name.replace(".", "_") + suffix + ("_total" if self.kind == COUNTER else "")


OPERATION, PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
MODEL, ERROR, TENANT = "gen_ai.request.model", "error.type", "lepton.tenant"
TOKEN_TYPE = "gen_ai.token.type"
RPC_SYSTEM, RPC_METHOD, RPC_STATUS = "rpc.system.name", "rpc.method", "rpc.response.status_code"
_ASKED = (OPERATION, PROVIDER, MODEL)

# Of calls, recorded when they have ended.
RPC_DURATION = Metric(
    "rpc.server.call.duration", HISTOGRAM, "s", "Duration of calls.",
    (RPC_SYSTEM, RPC_METHOD, RPC_STATUS, ERROR), REQUEST_BUCKETS,
)  # fmt: skip
REQUEST_DURATION = Metric(
    "gen_ai.server.request.duration", HISTOGRAM, "s", "Duration of requests to the model, to their last token.",
    (*_ASKED, ERROR), REQUEST_BUCKETS,
)  # fmt: skip
FIRST_TOKEN = Metric(
    "gen_ai.server.time_to_first_token", HISTOGRAM, "s", "From arrival to the first token, of successful requests.",
    _ASKED, FIRST_TOKEN_BUCKETS,
)  # fmt: skip
TOKEN_TIME = Metric(
    "gen_ai.server.time_per_output_token", HISTOGRAM, "s",
    "Mean time between two tokens after the first, of successful requests.", _ASKED, TOKEN_TIME_BUCKETS,
)  # fmt: skip
TOKEN_USAGE = Metric(
    "gen_ai.client.token.usage", HISTOGRAM, "{token}", "Tokens of prompts and outputs of requests that ran.",
    (*_ASKED, TOKEN_TYPE, TENANT), TOKEN_BUCKETS,
)  # fmt: skip
QUEUE = Metric(
    "lepton.request.queue.duration", HISTOGRAM, "s", "From arrival to the first step.", _ASKED, FIRST_TOKEN_BUCKETS
)
PREFILL = Metric(
    "lepton.request.prefill.duration", HISTOGRAM, "s", "From the first step to the first token.", _ASKED,
    FIRST_TOKEN_BUCKETS,
)  # fmt: skip
DECODE = Metric(
    "lepton.request.decode.duration", HISTOGRAM, "s", "From the first token to the last.", _ASKED, REQUEST_BUCKETS
)
REQUESTS = Metric(
    "lepton.requests", COUNTER, "{request}", "Requests to the model that have ended, by status.",
    (*_ASKED, RPC_STATUS, TENANT),
)  # fmt: skip
FINISHES = Metric(
    "lepton.choices", COUNTER, "{choice}", "Outputs that have ended, by finish reason.",
    (*_ASKED, "lepton.finish_reason"),
)  # fmt: skip
REQUEST_ENERGY = Metric(
    "lepton.request.energy", HISTOGRAM, "J", "Energy that was spent for a request, where it is measured.", _ASKED,
    ENERGY_BUCKETS,
)  # fmt: skip
CALLS = (
    RPC_DURATION, REQUEST_DURATION, FIRST_TOKEN, TOKEN_TIME, TOKEN_USAGE, QUEUE, PREFILL, DECODE, REQUESTS, FINISHES,
    REQUEST_ENERGY,
)  # fmt: skip

# Of the engine and the server, read when metrics are collected.
STATE = (
    Metric("lepton.server.ready", GAUGE, "", "1 while requests are taken."),
    Metric("lepton.server.draining", GAUGE, "", "1 while the server drains."),
    Metric("lepton.engine.restarts", COUNTER, "{restart}", "How often the engine was started again."),
)
ENGINE = (
    Metric("lepton.engine.running", GAUGE, "{request}", "Requests that are being computed."),
    Metric("lepton.engine.waiting", GAUGE, "{request}", "Requests that wait for memory or a place in the batch."),
    Metric("lepton.engine.waiting_tokens", GAUGE, "{token}", "Prompt tokens of the requests that wait."),
    Metric("lepton.engine.max_running", GAUGE, "{request}", "The most requests that are computed at once."),
    Metric("lepton.kv_cache.blocks", GAUGE, "{block}", "Blocks of the KV cache, by state.", ("lepton.state",)),
    Metric("lepton.kv_cache.cached_blocks", GAUGE, "{block}", "Free blocks that hold a prefix which may be hit."),
    Metric("lepton.kv_cache.usage", GAUGE, "1", "Share of the blocks that requests use."),
    Metric("lepton.engine.token_rate", GAUGE, "{token}/s", "Tokens a second, lately.", (TOKEN_TYPE,)),
    Metric("lepton.engine.tokens", COUNTER, "{token}", "Tokens of prompts, and tokens generated.", (TOKEN_TYPE,)),
    Metric(
        "lepton.engine.computed_tokens", COUNTER, "{token}",
        "Tokens that went through the model, repetitions included.",
    ),
    Metric("lepton.prefix_cache.queried_tokens", COUNTER, "{token}", "Prompt tokens looked up in the prefix cache."),
    Metric("lepton.prefix_cache.hit_tokens", COUNTER, "{token}", "Of these, tokens found."),
    Metric(
        "lepton.engine.ended_requests", COUNTER, "{request}",
        "Requests that have ended in the engine: finished, aborted, failed.", ("lepton.outcome",),
    ),
    Metric("lepton.engine.rejected", COUNTER, "{request}", "Requests refused, by reason.", ("lepton.reason",)),
    Metric("lepton.engine.preemptions", COUNTER, "{preemption}", "How often requests lost their memory to others."),
    Metric("lepton.engine.steps", COUNTER, "{step}", "Steps of the engine."),
    Metric("lepton.engine.step.time", COUNTER, "s", "Time of these steps."),
    Metric("lepton.speculation.drafted_tokens", COUNTER, "{token}", "Tokens proposed by speculation."),
    Metric("lepton.speculation.accepted_tokens", COUNTER, "{token}", "Of these, tokens that came true."),
    Metric(
        "lepton.energy", COUNTER, "J", "Energy that the device's counter has counted, where it is readable.",
        ("lepton.source",),
    ),
    Metric("lepton.energy.requests", COUNTER, "J", "Of this, energy spent for requests.", ("lepton.source",)),
)  # fmt: skip
METRICS = (*CALLS, *STATE, *ENGINE)
