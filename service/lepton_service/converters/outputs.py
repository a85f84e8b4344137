"""The engine's outputs to the contract's events."""

from collections.abc import Iterator, Sequence

from lepton.v1.generation_pb2 import (
    Choice,
    Delta,
    Finished,
    FinishReason,
    PromptLogprobs,
    Started,
    ToolCallDelta,
)
from lepton.v1.sampling_pb2 import OutputOptions
from lepton.v1.tokens_pb2 import Timings, TokenLogprobs, Usage
from lepton_engine.errors import RequestFailedError
from lepton_engine.outputs import CompletionOutput, Logprobs, RequestMetrics, RequestOutput
from lepton_service.converters.durations import to_duration
from lepton_service.errors import EngineUnavailableError, InvalidFieldError

PROMPT_LOGPROBS_PER_MESSAGE = 2048
# Log-probabilities of a prompt, alternatives included. An entry takes 9 bytes at most, so a message of them all stays
# below the 64 MiB that the published clients take.
MAX_ENTRIES = 4 * 1024 * 1024

_REASONS = {
    "stop": FinishReason.FINISH_REASON_STOP,
    "length": FinishReason.FINISH_REASON_LENGTH,
    "time_limit": FinishReason.FINISH_REASON_TIME_LIMIT,
    "tool_calls": FinishReason.FINISH_REASON_TOOL_CALLS,
}


def wants_token_ids(options: OutputOptions) -> bool:
    """Whether the ids of generated tokens are sent: the default is yes."""
    return options.return_token_ids if options.HasField("return_token_ids") else True


def started(output: RequestOutput, request_id: str, model: str, options: OutputOptions) -> Started:
    """How the request began, from any output at or after its first step."""
    event = Started(
        request_id=request_id,
        model=model,
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens,
        seed=output.seed,
    )
    metrics = output.metrics
    if metrics is not None and metrics.first_scheduled_time is not None:
        event.queue_time.CopyFrom(to_duration(metrics.first_scheduled_time - metrics.arrival_time))
    if options.return_prompt_token_ids:
        event.prompt_token_ids.extend(output.prompt_token_ids)
    return event


def delta(
    output: CompletionOutput, token_ids: bool, alternatives: int | None, tool_calls: Sequence[ToolCallDelta] = ()
) -> Delta | None:
    """New output of one choice; None when there is nothing that the request asked for.

    Args:
        token_ids: whether ids are sent. alternatives: OutputOptions.logprobs, None for no log-probabilities.
        tool_calls: pieces of calls, whose text the output no longer holds.
    """
    event = Delta(choice=output.index, text=output.text, token_ids=output.token_ids if token_ids else None)
    event.tool_calls.extend(tool_calls)
    if alternatives is not None and output.logprobs:
        event.logprobs.CopyFrom(packed_logprobs(output.token_ids, output.logprobs, alternatives))
    if not event.text and not event.token_ids and not event.tool_calls and not event.HasField("logprobs"):
        return None
    return event


def finished(output: CompletionOutput, request: RequestOutput, generated: int) -> Finished:
    """The end of one choice.

    Args:
        generated: tokens of this choice.

    Raises:
        RequestFailedError: the choice failed. EngineUnavailableError: the engine gave it up.
    """
    reason = _REASONS.get(output.finish_reason or "")
    if reason is None:
        if output.finish_reason == "abort":
            raise EngineUnavailableError("the engine gave this request up")
        raise RequestFailedError(f"this request failed while it ran ({output.finish_reason})")
    event = Finished(choice=output.index, reason=reason, usage=usage(request, generated))
    if isinstance(output.stop_reason, str):
        event.stop_string = output.stop_reason
    elif output.stop_reason is not None:
        event.stop_token_id = output.stop_reason
    if request.metrics is not None:
        event.timings.CopyFrom(timings(request.metrics))
    return event


def choice(output: CompletionOutput, request: RequestOutput, token_ids: bool, alternatives: int | None) -> Choice:
    """One whole output of the unary form."""
    whole = Choice(
        index=output.index,
        text=output.text,
        token_ids=output.token_ids if token_ids else None,
        finished=finished(output, request, len(output.token_ids)),
    )
    if alternatives is not None and output.logprobs:
        whole.logprobs.CopyFrom(packed_logprobs(output.token_ids, output.logprobs, alternatives))
    return whole


def usage(output: RequestOutput, generated: int) -> Usage:
    """What a request used."""
    return Usage(
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens,
        generated_tokens=generated,
        energy_joules=None if output.metrics is None else output.metrics.joules,
    )


def timings(metrics: RequestMetrics) -> Timings:
    """Where the time went; what has not happened stays unset."""
    message = Timings()
    arrival, first, end = metrics.arrival_time, metrics.first_token_time, metrics.finished_time
    if metrics.first_scheduled_time is not None:
        message.queue_time.CopyFrom(to_duration(metrics.first_scheduled_time - arrival))
    if first is not None:
        message.time_to_first_token.CopyFrom(to_duration(first - arrival))
        if end is not None:
            message.decode_time.CopyFrom(to_duration(end - first))
    if end is not None:
        message.total_time.CopyFrom(to_duration(end - arrival))
    return message


def packed_logprobs(token_ids: Sequence[int], rows: Sequence[Logprobs], alternatives: int) -> TokenLogprobs:
    """Log-probabilities of tokens as parallel lists.

    Args:
        token_ids: the tokens. rows: for each, its own log-probability and those of the alternatives, by token id.
        alternatives: the length of a row of alternatives.
    """
    own = [row[token] for token, row in zip(token_ids, rows, strict=True)]
    packed = TokenLogprobs(logprobs=[entry.logprob for entry in own], ranks=[entry.rank for entry in own])
    if alternatives:
        packed.top_per_token = min(alternatives, *(len(row) for row in rows)) if rows else alternatives
        for row in rows:
            ranked = sorted(row.items(), key=lambda item: item[1].rank)[: packed.top_per_token]
            packed.top_token_ids.extend(token for token, _ in ranked)
            packed.top_logprobs.extend(entry.logprob for _, entry in ranked)
    return packed


def check_prompt_logprobs(tokens: int, alternatives: int | None) -> None:
    """Raises InvalidFieldError when a prompt of so many tokens has too many alternatives."""
    if alternatives is not None and tokens * (1 + alternatives) > MAX_ENTRIES:
        allowed = f"{MAX_ENTRIES // tokens - 1} alternatives at most for a prompt of {tokens} tokens"
        raise InvalidFieldError("output.prompt_logprobs", f"{alternatives} gives more than one answer holds: {allowed}")


def prompt_logprobs(
    output: RequestOutput, alternatives: int | None, per_message: int = PROMPT_LOGPROBS_PER_MESSAGE
) -> Iterator[PromptLogprobs]:
    """Log-probabilities of the prompt from position 1 on, at most `per_message` tokens a message."""
    if alternatives is None or output.prompt_logprobs is None:
        return
    rows = output.prompt_logprobs
    for first in range(1, len(rows), per_message):
        window = [row for row in rows[first : first + per_message] if row is not None]
        ids = output.prompt_token_ids[first : first + len(window)]
        yield PromptLogprobs(first_position=first, logprobs=packed_logprobs(ids, window, alternatives))
