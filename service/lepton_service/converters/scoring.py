"""Score requests to what the engine is asked for, and its scores to the contract's response."""

import math

from lepton.v1.scoring_pb2 import ScoreRequest, ScoreResponse
from lepton.v1.tokens_pb2 import Usage
from lepton_engine.errors import RequestFailedError
from lepton_engine.outputs import ScoreOutput
from lepton_engine.sampling_params import MAX_LOGPROBS
from lepton_service.converters.outputs import MAX_ENTRIES, packed_logprobs, timings
from lepton_service.errors import InvalidFieldError


def top_logprobs(request: ScoreRequest, vocabulary: int) -> int:
    """Alternatives at every position.

    Raises:
        InvalidFieldError: more than allowed, or than there are tokens.
    """
    allowed = min(MAX_LOGPROBS, vocabulary)
    if not 0 <= request.top_logprobs <= allowed:
        raise InvalidFieldError("top_logprobs", f"{request.top_logprobs} is out of range, allowed is 0 to {allowed}")
    return request.top_logprobs


def context_tokens(request: ScoreRequest, tokens: int, path: str) -> int:
    """Leading tokens that are not scored.

    Args:
        tokens: of the prompt. path: the field that holds it.

    Raises:
        InvalidFieldError: nothing is left to score, or the first token would be, or there is too much for one answer.
    """
    if tokens < 2:
        raise InvalidFieldError(path, "gives 1 token, at least 2 are required: nothing stands before the first")
    context = request.context_tokens if request.HasField("context_tokens") else 1
    if not 1 <= context < tokens:
        allowed = f"allowed is 1 to {tokens - 1}, one less than the prompt's tokens"
        raise InvalidFieldError("context_tokens", f"{context} is out of range, {allowed}")
    entries = (tokens - context) * (1 + request.top_logprobs)
    if entries > MAX_ENTRIES:
        allowed = f"{MAX_ENTRIES // (tokens - context) - 1} alternatives at most for {tokens - context} scored tokens"
        raise InvalidFieldError("top_logprobs", f"{request.top_logprobs} gives more than one answer holds: {allowed}")
    return context


def wants_token_ids(request: ScoreRequest) -> bool:
    """Whether the ids of the tokens are sent: the default is yes."""
    return request.return_token_ids if request.HasField("return_token_ids") else True


def response(output: ScoreOutput, *, model: str, request_id: str, context: int, top: int, ids: bool) -> ScoreResponse:
    """The scores of the tokens from position `context` on.

    Args:
        top: alternatives at every position. ids: whether token ids are sent.

    Raises:
        RequestFailedError: the model computed NaN.
    """
    tokens = output.prompt_token_ids
    rows = [row for row in output.top_logprobs[context:] if row is not None]
    packed = packed_logprobs(tokens[context:], rows, top)
    # As the engine has them: the message's are rounded to 32 bits.
    own = [logprob for logprob in output.token_logprobs[context:] if logprob is not None]
    total = math.fsum(own) if all(map(math.isfinite, own)) else sum(own)
    if math.isnan(total):
        raise RequestFailedError("the model's log-probabilities are not numbers (NaN)")
    message = ScoreResponse(
        request_id=request_id,
        model=model,
        token_ids=tokens if ids else None,
        logprobs=packed,
        total_logprob=total,
        perplexity=_exp(-total / len(own)),
        usage=Usage(prompt_tokens=len(tokens)),
    )
    if output.metrics is not None:
        message.timings.CopyFrom(timings(output.metrics))
    return message


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
