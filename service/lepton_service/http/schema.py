"""What both kinds of generation requests have in common: the JSON's fields and what they become in the contract.

Types and unknown fields are checked here; ranges and what goes together are the contract's, where both fronts share it.
Fields of OpenAI's that are not supported are refused by name unless they ask for nothing. Beside OpenAI's fields there
are those of the contract that it lacks, under the names that vLLM's users know.
"""

from typing import Annotated, Any

import msgspec
from google.protobuf.duration_pb2 import Duration

from lepton.v1.generation_pb2 import CompleteRequest, GenerateRequest
from lepton_service.http.errors import invalid, unsupported

AnyRequest = GenerateRequest | CompleteRequest

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
UInt32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
UInt63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
NULL = msgspec.Raw(b"null")


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The contract's constraint; exactly one."""

    json: msgspec.Raw = NULL
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class GenerationBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of completions and of chat completions."""

    model: str = ""
    n: Int32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: UInt63 | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[UInt32, float] | None = None
    stop: str | list[str] | None = None
    max_tokens: Int32 | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # The contract's own.
    top_k: Int32 | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[UInt32] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Int32 | None = None
    skip_special_tokens: bool | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[UInt32] | None = None
    priority: Int32 | None = None
    max_queue_time: float | None = None  # seconds
    structured_outputs: StructuredOutputs | None = None
    # OpenAI's that are refused.
    user: Any = None
    safety_identifier: Any = None


# Fields that are refused, with the values that ask for nothing and are let pass (null always is).
UNSUPPORTED: dict[str, tuple[Any, ...]] = {"user": (), "safety_identifier": ()}


def refuse_unsupported(body: GenerationBody, table: dict[str, tuple[Any, ...]]) -> None:
    """Refuses the fields of a table that are set.

    Raises:
        HTTPError: naming the field.
    """
    for name, neutral in table.items():
        value = getattr(body, name)
        if value is not None and value not in neutral:
            raise unsupported(name, "is not supported by this server, leave it out")
    options = body.stream_options
    if options is not None:
        if not body.stream:
            raise invalid("stream_options", "is set without stream = true")
        if options.include_obfuscation:
            raise unsupported("stream_options.include_obfuscation", "is not supported by this server, leave it out")


def fill(request: AnyRequest, body: GenerationBody) -> None:
    """Sets what both kinds have in common.

    Raises:
        HTTPError: a constraint that is none, or more than one.
    """
    request.model = body.model
    if body.priority is not None:
        request.priority = body.priority
    if body.max_queue_time is not None:
        request.max_queue_time.CopyFrom(_duration(body.max_queue_time))
    for message, names in (
        (
            request.sampling,
            (
                *("n", "temperature", "top_p", "top_k", "min_p", "seed"),
                *("presence_penalty", "frequency_penalty", "repetition_penalty"),
            ),
        ),
        (request.stop, ("ignore_eos", "max_tokens", "min_tokens")),
        (request.output, ("skip_special_tokens",)),
    ):
        for name in names:
            value = getattr(body, name)
            if value is not None:
                setattr(message, name, value)
    for token, bias in (body.logit_bias or {}).items():
        request.sampling.logit_bias[token] = bias
    request.sampling.allowed_token_ids.extend(body.allowed_token_ids or ())
    request.sampling.bad_words.extend(body.bad_words or ())
    request.stop.strings.extend([body.stop] if isinstance(body.stop, str) else body.stop or ())
    request.stop.token_ids.extend(body.stop_token_ids or ())
    if body.include_stop_str_in_output is not None:
        request.stop.include_in_output = body.include_stop_str_in_output
    if body.structured_outputs is not None:
        constrain(request, body.structured_outputs)


def _duration(seconds: float) -> Duration:
    try:
        found = Duration()
        found.FromNanoseconds(round(seconds * 1e9))
    except (ValueError, OverflowError) as error:
        raise invalid("max_queue_time", f"{seconds:g} s is out of range") from error
    return found


def constrain(request: AnyRequest, given: StructuredOutputs) -> None:
    """Sets the constraint.

    Raises:
        HTTPError: none, or more than one.
    """
    kinds = {
        "json": bytes(given.json).strip() != b"null",
        "regex": given.regex is not None,
        "choice": given.choice is not None,
        "grammar": given.grammar is not None,
    }
    found = [name for name, there in kinds.items() if there]
    if len(found) != 1:
        held = " and ".join(found) or "nothing"
        raise invalid("structured_outputs", f"holds {held}, exactly one of {', '.join(kinds)} is required")
    constraint = request.constraint
    if given.regex is not None:
        constraint.regex = given.regex
    elif given.grammar is not None:
        constraint.grammar = given.grammar
    elif given.choice is not None:
        constraint.choices.texts.extend(given.choice)
        constraint.choices.SetInParent()
    else:
        constraint.json_schema = bytes(given.json).decode()


def copied(request: CompleteRequest) -> GenerateRequest:
    """The same request for a stream: either's bytes are the other's."""
    return GenerateRequest.FromString(request.SerializeToString())


class EmbeddingBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """OpenAI's embeddings request."""

    input: Any
    model: str = ""
    encoding_format: Any = None
    dimensions: Any = None
    user: Any = None
