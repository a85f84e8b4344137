"""Request options to the engine's SamplingParams. Defaults and ranges are the engine's own."""

from collections.abc import Collection, Mapping
from typing import Any

from lepton.v1 import sampling_pb2
from lepton.v1.generation_pb2 import CompleteRequest, GenerateRequest
from lepton.v1.scoring_pb2 import ScoreRequest
from lepton_engine.errors import InvalidRequestError
from lepton_engine.sampling_limits import validate_params
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.structured_outputs import StructuredOutputs
from lepton_service.converters.durations import seconds
from lepton_service.converters.fields import proto_path
from lepton_service.errors import InvalidFieldError
from lepton_service.flow import Coalescing

MAX_PRIORITY = 100
MAX_DELAY_SECONDS = 10.0
DEFAULT_DELAY_SECONDS = 0.05

_SAMPLING = (
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
_STOP = ("ignore_eos", "max_tokens", "min_tokens")
_OUTPUT = ("logprobs", "prompt_logprobs", "skip_special_tokens")


def sampling_params(
    request: GenerateRequest | CompleteRequest,
    kind: OutputKind,
    vocabulary: int,
    defaults: Mapping[str, float] | None = None,
    eos_token_ids: Collection[int] = (),
) -> SamplingParams:
    """The engine's parameters of a request, checked against the model.

    Args:
        vocabulary: token ids are below it.
        defaults: the model's own, by the engine's field names, for what the request leaves out.
        eos_token_ids: the tokens that end an output by default.

    Raises:
        InvalidFieldError: a value that is not allowed.
    """
    values: dict[str, Any] = {"max_tokens": None, **(defaults or {}), "output_kind": kind}
    values["structured_outputs"] = constraint(request)
    sampling, stop, output = request.sampling, request.stop, request.output
    values.update({field.name: value for field, value in sampling.ListFields() if field.name in _SAMPLING})
    values.update({field.name: value for field, value in stop.ListFields() if field.name in _STOP})
    values.update({field.name: value for field, value in output.ListFields() if field.name in _OUTPUT})
    if sampling.logit_bias:
        values["logit_bias"] = dict(sampling.logit_bias)
    if sampling.allowed_token_ids:
        values["allowed_token_ids"] = tuple(sampling.allowed_token_ids)
    if sampling.bad_words:
        values["bad_words"] = tuple(sampling.bad_words)
    if stop.strings:
        values["stop"] = tuple(stop.strings)
    if stop.token_ids:
        values["stop_token_ids"] = tuple(stop.token_ids)
    if stop.HasField("include_in_output"):
        values["include_stop_str_in_output"] = stop.include_in_output
    if output.HasField("return_text"):
        values["detokenize"] = output.return_text
    _check_token_ids(request, vocabulary)
    try:
        params = SamplingParams(**values)
        validate_params(params, vocabulary, {*params.stop_token_ids, *(() if params.ignore_eos else eos_token_ids)})
    except InvalidRequestError as error:
        raise InvalidFieldError(proto_path(error.field), error.reason) from error
    return params


def _check_token_ids(request: GenerateRequest | CompleteRequest, vocabulary: int) -> None:
    lists = (
        ("sampling.allowed_token_ids", request.sampling.allowed_token_ids),
        ("stop.token_ids", request.stop.token_ids),
    )
    allowed = f"is outside the model's vocabulary, allowed is 0 to {vocabulary - 1}"
    for path, ids in lists:
        for index, token in enumerate(ids):
            if token >= vocabulary:
                raise InvalidFieldError(f"{path}[{index}]", f"{token} {allowed}")
    for token in request.sampling.logit_bias:
        if token >= vocabulary:
            raise InvalidFieldError(f"sampling.logit_bias[{token}]", f"{token} {allowed}")


def constraint(request: GenerateRequest | CompleteRequest) -> StructuredOutputs | None:
    """The form that the output must have; None for any.

    Raises:
        InvalidFieldError: one without a kind, or malformed on the face of it; what it means the engine finds out.
    """
    if not request.HasField("constraint"):
        return None
    given = request.constraint
    kind = given.WhichOneof("kind")
    try:
        if kind == "json_schema":
            return StructuredOutputs(json=given.json_schema)
        if kind == "regex":
            return StructuredOutputs(regex=given.regex)
        if kind == "grammar":
            return StructuredOutputs(grammar=given.grammar)
        if kind == "choices":
            return StructuredOutputs(choice=tuple(given.choices.texts))
    except InvalidRequestError as error:
        raise InvalidFieldError(proto_path(error.field), error.reason) from error
    allowed = "one of json_schema, regex, grammar and choices is required"
    raise InvalidFieldError("constraint", f"has no kind: {allowed}")


def priority(request: GenerateRequest | CompleteRequest | ScoreRequest) -> int:
    """The request's priority.

    Raises:
        InvalidFieldError: it is out of range.
    """
    if not -MAX_PRIORITY <= request.priority <= MAX_PRIORITY:
        raise InvalidFieldError(
            "priority", f"{request.priority} is out of range, allowed is -{MAX_PRIORITY} to {MAX_PRIORITY}"
        )
    return request.priority


def time_limit(request: GenerateRequest | CompleteRequest, longest: float | None) -> float | None:
    """Seconds after which the output ends, bounded by what the server allows; None for no limit.

    Raises:
        InvalidFieldError: it is not above zero.
    """
    if not request.HasField("time_limit"):
        return longest
    limit = seconds(request.time_limit)
    if limit <= 0:
        raise InvalidFieldError("time_limit", f"{limit:g} s is not above 0")
    return limit if longest is None else min(limit, longest)


def max_queue_time(request: GenerateRequest | CompleteRequest | ScoreRequest) -> float | None:
    """Seconds that the request may wait before it begins to run; None for no bound of its own.

    Raises:
        InvalidFieldError: it is not above zero.
    """
    if not request.HasField("max_queue_time"):
        return None
    limit = seconds(request.max_queue_time)
    if limit <= 0:
        raise InvalidFieldError("max_queue_time", f"{limit:g} s is not above 0")
    return limit


def coalescing(options: sampling_pb2.OutputOptions, streamed: bool = True) -> Coalescing | None:
    """How the stream's tokens are put together; None for every token at once.

    Raises:
        InvalidFieldError: a value out of range, or any for an answer that is not streamed.
    """
    if not options.HasField("coalescing"):
        return None
    if not streamed:
        raise InvalidFieldError("output.coalescing", "is set, but only streams can be coalesced")
    given = options.coalescing
    tokens = given.max_tokens if given.HasField("max_tokens") else 1
    if tokens < 1:
        raise InvalidFieldError("output.coalescing.max_tokens", f"{tokens} is out of range, allowed is at least 1")
    delay = DEFAULT_DELAY_SECONDS
    if given.HasField("max_delay"):
        delay = seconds(given.max_delay)
        if not 0 < delay <= MAX_DELAY_SECONDS:
            allowed = f"allowed is above 0 s, at most {MAX_DELAY_SECONDS:g} s"
            raise InvalidFieldError("output.coalescing.max_delay", f"{delay:g} s is out of range, {allowed}")
    if tokens == 1:
        return None
    return Coalescing(max_tokens=tokens, max_delay=delay)
