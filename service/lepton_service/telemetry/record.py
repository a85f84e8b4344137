"""What metrics keep of one call; small, because further front ends send it to the first."""

import msgspec

from lepton_service.calls import Call


class CallRecord(msgspec.Struct, array_like=True, frozen=True):
    """A call that has ended. Times in seconds; None for what it did not come to.

    Attributes:
        method: `package.Service/Method`. code: name of the gRPC status.
        operation: what the model was asked for; empty for other calls.
        queue, first_token, prefill, decode: from arrival to the first step, from arrival to the first token, between
            the two, and from the first token to the last.
        joules: energy that was spent for it.
    """

    method: str
    code: str
    seconds: float
    operation: str = ""
    tenant: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    choices: int = 1
    finish_reasons: list[str] = []
    queue: float | None = None
    first_token: float | None = None
    prefill: float | None = None
    decode: float | None = None
    joules: float | None = None

    @property
    def per_token(self) -> float | None:
        """Seconds between two tokens of a choice after its first; None where there were no two."""
        if self.decode is None or self.generated_tokens <= self.choices:
            return None
        return max(0.0, self.decode) / (self.generated_tokens / self.choices - 1)


def record_of(call: Call, code: str, seconds: float) -> CallRecord:
    """What metrics keep of a call that has ended so."""
    method = call.method.removeprefix("/")
    times = call.metrics
    if not call.operation or times is None or times.first_scheduled_time is None:
        return CallRecord(method, code, seconds, call.operation, call.tenant)
    arrival, scheduled, first = times.arrival_time, times.first_scheduled_time, times.first_token_time
    return CallRecord(
        method,
        code,
        seconds,
        call.operation,
        call.tenant,
        prompt_tokens=call.prompt_tokens or 0,
        cached_tokens=call.cached_tokens or 0,
        generated_tokens=call.generated_tokens or 0,
        choices=1 if call.params is None else call.params.n,
        finish_reasons=list(call.finish_reasons.values()),
        queue=max(0.0, scheduled - arrival),
        first_token=None if first is None else max(0.0, first - arrival),
        prefill=None if first is None else max(0.0, first - scheduled),
        decode=None if first is None or times.finished_time is None else times.finished_time - first,
        joules=times.joules,
    )
