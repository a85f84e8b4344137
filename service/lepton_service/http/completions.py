"""`/v1/completions`: the request's JSON to the contract's requests, one a prompt."""

from typing import Any

from lepton.v1.generation_pb2 import CompleteRequest
from lepton_service.http.errors import invalid
from lepton_service.http.schema import UNSUPPORTED, GenerationBody, Int32, UInt32, fill, refuse_unsupported

DEFAULT_MAX_TOKENS = 16  # OpenAI's
MAX_PROMPTS = 128

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {**UNSUPPORTED, "echo": (False,), "suffix": ("",)}

Prompt = str | list[int]


class CompletionBody(GenerationBody, forbid_unknown_fields=True, kw_only=True):
    """OpenAI's legacy completion request."""

    prompt: str | list[str | UInt32 | list[UInt32]]
    logprobs: Int32 | None = None
    best_of: Int32 | None = None
    add_special_tokens: bool | None = None
    echo: Any = None
    suffix: Any = None


def prompts(given: str | list[str | int | list[int]]) -> list[Prompt]:
    """The prompts of a request: one text, one list of token ids, or a list of such.

    Raises:
        HTTPError: there are none, too many, or they are mixed up.
    """
    if isinstance(given, str):
        return [given]
    if not given:
        raise invalid("prompt", "is empty, at least one prompt is required")
    ids = [item for item in given if isinstance(item, int)]
    if ids:
        if len(ids) != len(given):
            raise invalid("prompt", "mixes token ids with prompts, allowed is a list of one of them")
        return [ids]
    if len(given) > MAX_PROMPTS:
        raise invalid("prompt", f"has {len(given)} prompts, allowed are {MAX_PROMPTS} at most")
    return [item for item in given if not isinstance(item, int)]


def requests(body: CompletionBody) -> list[CompleteRequest]:
    """The contract's requests, one a prompt.

    Raises:
        HTTPError: naming the field at fault.
    """
    refuse_unsupported(body, _UNSUPPORTED)
    if body.best_of is not None and body.best_of != (1 if body.n is None else body.n):
        raise invalid("best_of", f"{body.best_of} differs from n, choosing among outputs is not supported")
    made = []
    for prompt in prompts(body.prompt):
        request = CompleteRequest()
        fill(request, body)
        if isinstance(prompt, str):
            request.text = prompt
        else:
            request.token_ids.ids.extend(prompt)
            request.token_ids.SetInParent()
        if body.add_special_tokens is not None:
            request.add_special_tokens = body.add_special_tokens
        if body.max_tokens is None:
            request.stop.max_tokens = max(DEFAULT_MAX_TOKENS, body.min_tokens or 0)
        if body.logprobs is not None:
            request.output.logprobs = body.logprobs
        else:
            request.output.return_token_ids = False
        made.append(request)
    return made
