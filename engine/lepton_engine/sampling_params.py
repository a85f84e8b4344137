"""What a request asks of the sampler, under the names that vLLM's users know."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from lepton_engine.errors import InvalidRequestError
from lepton_engine.structured_outputs import StructuredOutputs

MAX_N = 64
MAX_STOP_STRINGS = 64
MAX_TEXT_LENGTH = 1024
MAX_STOP_TOKEN_IDS = 256
MAX_BAD_WORDS = 1024
MAX_LOGIT_BIAS = 1024
MAX_LOGPROBS = 128
MAX_INT32 = 2**31 - 1


class OutputKind(StrEnum):
    """What each streamed `RequestOutput` carries: all so far, only the news, or just the end."""

    CUMULATIVE = "cumulative"
    DELTA = "delta"
    FINAL_ONLY = "final_only"


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the next tokens of a request are chosen and when it ends.

    Frozen and validated on construction; lists become tuples, and a lone `stop` text a tuple of one. Probabilities are
    shaped in this order: logit_bias and allowed_token_ids, bad_words and min_tokens masks, penalties, temperature,
    min_p, top_k, top_p.

    Attributes:
        n: sequences sampled from the one prompt, 1 to 64.
        temperature: >= 0; 0 is greedy.
        top_p: nucleus mass in (0, 1].
        top_k: candidates kept, >= 1; 0 or -1 keeps all.
        min_p: floor relative to the most likely token, in [0, 1].
        seed: 0 to 2**63 - 1; None draws one, which the output reports.
        presence_penalty, frequency_penalty: in [-2, 2], over the generated tokens.
        repetition_penalty: > 0, over prompt and generated tokens (CTRL, arXiv:1909.05858).
        logit_bias: token id -> added to its logit, in [-100, 100]; -100 makes a token all but impossible, it forbids
            nothing (allowed_token_ids and bad_words do).
        allowed_token_ids: the only tokens that may be sampled; None allows all.
        bad_words: texts of up to 1024 characters that are never completed.
        stop: texts of up to 1024 characters that end the output. stop_token_ids: tokens that do.
        include_stop_str_in_output: keep the matched stop text (or token) in the text.
        ignore_eos: go on after the end-of-sequence token.
        max_tokens: >= 1 generated tokens at most; None goes on to the model's context length.
        min_tokens: >= 0 generated tokens before any stop token may be sampled.
        logprobs: alternatives reported per generated token besides the sampled one; None reports nothing.
        prompt_logprobs: the same for the prompt's tokens.
        detokenize: whether text is produced. skip_special_tokens: whether special tokens are left out of it.
        output_kind: what each streamed output carries.
        structured_outputs: the form that the output must have, or a mapping of its one field; every token that would
            leave it is masked, and log-probabilities are those of the tokens that it allows. Once nothing can follow,
            the output ends with "stop", ignore_eos and min_tokens notwithstanding.

    Raises:
        InvalidRequestError: naming the field, the value and what is allowed.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    bad_words: Sequence[str] = ()
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    output_kind: OutputKind = OutputKind.CUMULATIVE
    structured_outputs: StructuredOutputs | None = None

    def __post_init__(self) -> None:
        _number(self, "temperature", 0.0, 1e6)
        _number(self, "top_p", 0.0, 1.0, exclusive_low=True)
        _number(self, "min_p", 0.0, 1.0)
        _number(self, "presence_penalty", -2.0, 2.0)
        _number(self, "frequency_penalty", -2.0, 2.0)
        _number(self, "repetition_penalty", 0.0, 1e6, exclusive_low=True)
        _integer(self, "n", 1, MAX_N)
        _integer(self, "top_k", -1, MAX_INT32)
        _integer(self, "seed", 0, 2**63 - 1, optional=True)
        _integer(self, "max_tokens", 1, MAX_INT32, optional=True)
        _integer(self, "min_tokens", 0, MAX_INT32)
        _integer(self, "logprobs", 0, MAX_LOGPROBS, optional=True)
        _integer(self, "prompt_logprobs", 0, MAX_LOGPROBS, optional=True)
        for name in ("include_stop_str_in_output", "ignore_eos", "detokenize", "skip_special_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise _invalid(name, f"{getattr(self, name)!r} is neither True nor False")
        if not isinstance(self.output_kind, OutputKind):
            kinds = ", ".join(f"OutputKind.{kind.name}" for kind in OutputKind)
            raise _invalid("output_kind", f"{self.output_kind!r} is none of {kinds}")
        if isinstance(self.stop, str):
            msgspec.structs.force_setattr(self, "stop", (self.stop,))
        _texts(self, "stop", MAX_STOP_STRINGS)
        _texts(self, "bad_words", MAX_BAD_WORDS)
        _token_ids(self, "stop_token_ids", MAX_STOP_TOKEN_IDS)
        if self.allowed_token_ids is not None:
            _token_ids(self, "allowed_token_ids", None)
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise _invalid("allowed_token_ids", "is empty: at least one token must be allowed")
        self._check_logit_bias()
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise _invalid("min_tokens", f"{self.min_tokens} exceeds max_tokens, which is {self.max_tokens}")
        if self.stop and not self.detokenize:
            raise _invalid("stop", "stop strings need detokenize=True")
        if self.structured_outputs is not None:
            msgspec.structs.force_setattr(self, "structured_outputs", StructuredOutputs.of(self.structured_outputs))

    def _check_logit_bias(self) -> None:
        if self.logit_bias is None:
            return
        if not isinstance(self.logit_bias, Mapping):
            raise _invalid("logit_bias", f"{self.logit_bias!r} is not a mapping of token ids to biases")
        if len(self.logit_bias) > MAX_LOGIT_BIAS:
            raise _invalid("logit_bias", f"has {len(self.logit_bias)} entries, at most {MAX_LOGIT_BIAS} are allowed")
        for token_id, bias in self.logit_bias.items():
            if not _is_token_id(token_id):
                raise _invalid("logit_bias", f"{token_id!r} is not a token id")
            if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
                raise _invalid("logit_bias", f"the bias of token {token_id} is {bias!r}, allowed is -100 to 100")
        msgspec.structs.force_setattr(self, "logit_bias", dict(self.logit_bias))


def _invalid(name: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"sampling_params.{name}", reason)


def _number(params: SamplingParams, name: str, low: float, high: float, *, exclusive_low: bool = False) -> None:
    value = getattr(params, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _invalid(name, f"{value!r} is not a finite number")
    if not low <= value <= high or (exclusive_low and value == low):
        bracket = "(" if exclusive_low else "["
        raise _invalid(name, f"{value!r} is outside {bracket}{low:g}, {high:g}]")


def _integer(params: SamplingParams, name: str, low: int, high: int, *, optional: bool = False) -> None:
    value = getattr(params, name)
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid(name, f"{value!r} is not an integer")
    if not low <= value <= high:
        raise _invalid(name, f"{value} is out of range, allowed is {low} to {high}")


def _texts(params: SamplingParams, name: str, limit: int) -> None:
    """Check a list of texts and put a tuple in its place; None stands for no texts, as vLLM has it."""
    values = getattr(params, name)
    values = () if values is None else values
    if isinstance(values, str) or not isinstance(values, tuple | list):
        raise _invalid(name, f"{values!r} is not a list of texts")
    if len(values) > limit:
        raise _invalid(name, f"has {len(values)} entries, at most {limit} are allowed")
    for value in values:
        if not isinstance(value, str) or not value:
            raise _invalid(name, f"{value!r} is not a non-empty text")
        if len(value) > MAX_TEXT_LENGTH:
            raise _invalid(name, f"has a text of {len(value)} characters, at most {MAX_TEXT_LENGTH} are allowed")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _invalid(name, f"{value!r} holds a lone surrogate, which is no text")
    msgspec.structs.force_setattr(params, name, tuple(values))


def _token_ids(params: SamplingParams, name: str, limit: int | None) -> None:
    """Check a list of token ids and put a tuple in its place; None stands for no ids, as vLLM has it."""
    values = getattr(params, name)
    values = () if values is None else values
    if isinstance(values, str) or not isinstance(values, tuple | list):
        raise _invalid(name, f"{values!r} is not a list of token ids")
    if limit is not None and len(values) > limit:
        raise _invalid(name, f"has {len(values)} entries, at most {limit} are allowed")
    for value in values:
        if not _is_token_id(value):
            raise _invalid(name, f"{value!r} is not a token id")
    msgspec.structs.force_setattr(params, name, tuple(values))


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INT32
