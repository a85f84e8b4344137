"""What sampling parameters may ask of a given model. Imports no torch."""

from collections.abc import Collection, Iterable

from lepton_engine.errors import InvalidRequestError
from lepton_engine.sampling_params import SamplingParams

# The lowest bias is added like any other and so forbids nothing by itself, but who uses it means to ban the token, as
# vLLM's and OpenAI's users do: allowing nothing else is a contradiction.
NEVER = -100.0


def validate_params(
    params: SamplingParams,
    vocab_size: int,
    stop_token_ids: Collection[int] | None = None,
    bad_tokens: Collection[int] = (),
) -> None:
    """Check the parameters that depend on the vocabulary.

    Args:
        vocab_size: columns of the model's logits.
        stop_token_ids: every token that ends the output, end-of-sequence tokens included; None takes the
            parameters' own.
        bad_tokens: bad words that are a single token, which is therefore never sampled.

    Raises:
        InvalidRequestError: naming the field: a token id outside the vocabulary, logprobs above its size, or allowed
            tokens none of which could ever be sampled.
    """
    _check_ids("logit_bias", params.logit_bias or (), vocab_size)
    _check_ids("allowed_token_ids", params.allowed_token_ids or (), vocab_size)
    _check_ids("stop_token_ids", params.stop_token_ids, vocab_size)
    for name, count in (("logprobs", params.logprobs), ("prompt_logprobs", params.prompt_logprobs)):
        if count is not None and count > vocab_size:
            raise _invalid(name, f"{count} exceeds the vocabulary of {vocab_size} tokens")
    _check_allowed(params, params.stop_token_ids if stop_token_ids is None else stop_token_ids, bad_tokens)


def _check_ids(name: str, token_ids: Iterable[int], vocab_size: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise _invalid(name, f"token id {token_id} is outside the vocabulary of {vocab_size} tokens")


def _check_allowed(params: SamplingParams, stop_token_ids: Collection[int], bad_tokens: Collection[int]) -> None:
    if params.allowed_token_ids is None:
        return
    allowed = set(params.allowed_token_ids) - set(bad_tokens)
    if not allowed:
        raise _invalid("allowed_token_ids", "holds only tokens that bad_words bans")
    if params.min_tokens and allowed <= set(stop_token_ids):
        raise _invalid(
            "allowed_token_ids",
            f"holds only stop tokens, none of which may be sampled within the first {params.min_tokens} (min_tokens)",
        )
    banned = {token for token, bias in (params.logit_bias or {}).items() if bias <= NEVER}
    if allowed <= banned:
        raise _invalid("allowed_token_ids", f"holds only tokens that logit_bias bans with {NEVER:g}")
    if params.min_tokens and allowed <= banned | set(stop_token_ids):
        raise _invalid(
            "allowed_token_ids",
            f"holds only tokens that logit_bias bans with {NEVER:g}, and stop tokens before min_tokens are generated",
        )


def _invalid(name: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"sampling_params.{name}", reason)
