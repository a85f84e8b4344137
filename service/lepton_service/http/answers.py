"""The contract's answers to OpenAI's JSON: whole ones and the chunks of a stream."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lepton.v1.chat_pb2 import ToolCall
from lepton.v1.generation_pb2 import Choice, CompleteResponse, Delta, Finished, FinishReason, GenerateResponse
from lepton.v1.tokens_pb2 import TokenLogprobs, Usage
from lepton_service.http.tokens import TokenTexts

LOWEST_LOGPROB = -9999.0  # OpenAI's for what is impossible; JSON has no infinity

_REASONS = {
    FinishReason.FINISH_REASON_STOP: "stop",
    FinishReason.FINISH_REASON_LENGTH: "length",
    FinishReason.FINISH_REASON_TIME_LIMIT: "length",
    FinishReason.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


@dataclass
class Form:
    """How an answer is written.

    Attributes:
        texts: gives those of the model's tokens.
        kind: `completion` or `chat`. choices: outputs of each of the request's prompts.
        logprobs: whether log-probabilities were asked for. include_usage: whether a stream ends with its usage.
    """

    request_id: str
    model: str
    created: int
    texts: Callable[[], TokenTexts]
    choices: int
    logprobs: bool
    include_usage: bool
    kind: str = "completion"
    _offsets: dict[int, int] = field(default_factory=dict)
    _usages: dict[int, Usage] = field(default_factory=dict)

    @property
    def chat(self) -> bool:
        """Whether it answers a chat."""
        return self.kind == "chat"

    def whole(self, responses: Iterable[CompleteResponse]) -> dict[str, Any]:
        """The answer that is not streamed, of the responses to all prompts in order."""
        choices: list[dict[str, Any]] = []
        usages = []
        for number, response in enumerate(responses):
            usages.append(response.usage)
            for choice in response.choices:
                index = number * self.choices + choice.index
                body = self._chat_choice(choice) if self.chat else {"text": choice.text}
                logprobs = self._logprobs(index, choice.token_ids, choice.logprobs)
                choices.append({"index": index, **body, "logprobs": logprobs, **_ending(choice.finished)})
        return {**self._head(streamed=False), "choices": choices, "usage": _usage(usages)}

    def _chat_choice(self, choice: Choice) -> dict[str, Any]:
        calls = [_tool_call(call) for call in choice.tool_calls]
        message: dict[str, Any] = {"role": "assistant", "content": None if calls and not choice.text else choice.text}
        message["refusal"] = None
        if choice.reasoning_text:
            message["reasoning_content"] = choice.reasoning_text
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def chunks(self, number: int, event: GenerateResponse) -> Iterator[dict[str, Any]]:
        """The chunks for one event of the stream of prompt `number`."""
        kind = event.WhichOneof("event")
        first = number * self.choices
        if kind == "started" and self.chat:
            for choice in range(self.choices):
                yield self._chunk(first + choice, {"delta": {"role": "assistant", "content": ""}})
        elif kind == "delta":
            index = first + event.delta.choice
            news: dict[str, Any] = {"delta": _chat_delta(event.delta)} if self.chat else {"text": event.delta.text}
            logprobs = self._logprobs(index, event.delta.token_ids, event.delta.logprobs)
            yield self._chunk(index, news, logprobs)
        elif kind == "finished":
            self._usages[first + event.finished.choice] = event.finished.usage
            news = {"delta": {}} if self.chat else {"text": ""}
            yield self._chunk(first + event.finished.choice, news, ending=_ending(event.finished))

    def last(self) -> Iterator[dict[str, Any]]:
        """The chunk after all others, where it was asked for."""
        if not self.include_usage:
            return
        usages = []
        for number in range(len(self._usages) // self.choices):
            parts = [self._usages[number * self.choices + choice] for choice in range(self.choices)]
            total = Usage(prompt_tokens=parts[0].prompt_tokens, cached_tokens=parts[0].cached_tokens)
            total.generated_tokens = sum(part.generated_tokens for part in parts)
            usages.append(total)
        yield {**self._head(streamed=True), "choices": [], "usage": _usage(usages)}

    def _chunk(
        self, index: int, news: dict[str, Any], logprobs: Any = None, ending: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, **news, "logprobs": logprobs, **(ending or {"finish_reason": None})}
        chunk = {**self._head(streamed=True), "choices": [choice]}
        return {**chunk, "usage": None} if self.include_usage else chunk

    def _head(self, streamed: bool) -> dict[str, Any]:
        name = "text_completion"
        if self.chat:
            name = "chat.completion.chunk" if streamed else "chat.completion"
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.request_id}", "object": name, "created": self.created, "model": self.model}

    def _logprobs(self, index: int, tokens: Iterable[int], packed: TokenLogprobs) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        rows = list(_rows(tokens, packed))
        return self._chat_logprobs(rows) if self.chat else self._completion_logprobs(index, rows)

    def _chat_logprobs(self, rows: list["_Row"]) -> dict[str, Any]:
        return {
            "content": [
                {
                    **self._entry(row.token, row.logprob),
                    "top_logprobs": [self._entry(token, logprob) for token, logprob in row.top],
                }
                for row in rows
            ],
            "refusal": None,
        }

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        texts = self.texts()
        return {"token": texts.text(token), "logprob": _finite(logprob), "bytes": texts.bytes(token)}

    def _completion_logprobs(self, index: int, rows: list["_Row"]) -> dict[str, Any]:
        known = self.texts()
        texts = [known.text(row.token) for row in rows]
        offsets = []
        at = self._offsets.get(index, 0)
        for text in texts:
            offsets.append(at)
            at += len(text)
        self._offsets[index] = at
        tops: list[dict[str, float]] = []
        for row in rows:
            top: dict[str, float] = {}
            for token, logprob in row.top:
                top.setdefault(known.text(token), _finite(logprob))  # several tokens may read the same
            tops.append(top)
        return {
            "tokens": texts,
            "token_logprobs": [_finite(row.logprob) for row in rows],
            "top_logprobs": tops if any(tops) else None,
            "text_offset": offsets,
            "bytes": [known.bytes(row.token) for row in rows],  # beside OpenAI's: tokens may be parts of characters
        }


@dataclass(frozen=True)
class _Row:
    """One token: its log-probability, and those of the likeliest."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def _rows(tokens: Iterable[int], packed: TokenLogprobs) -> Iterator[_Row]:
    width = packed.top_per_token
    for number, (token, logprob) in enumerate(zip(tokens, packed.logprobs, strict=True)):
        part = slice(number * width, (number + 1) * width)
        yield _Row(token, logprob, list(zip(packed.top_token_ids[part], packed.top_logprobs[part], strict=True)))


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)


def _ending(finished: Finished) -> dict[str, Any]:
    """Why an output ended; `stop_reason` beside OpenAI's says what stopped it."""
    matched = finished.WhichOneof("matched_stop")
    reason = None if matched is None else getattr(finished, matched)
    if finished.reason == FinishReason.FINISH_REASON_TIME_LIMIT:
        reason = "time_limit"
    return {"finish_reason": _REASONS[finished.reason], "stop_reason": reason}


def _chat_delta(delta: Delta) -> dict[str, Any]:
    news: dict[str, Any] = {}
    if delta.text or not (delta.reasoning_text or delta.tool_calls):
        news["content"] = delta.text
    if delta.reasoning_text:
        news["reasoning_content"] = delta.reasoning_text
    if delta.tool_calls:
        news["tool_calls"] = []
    for piece in delta.tool_calls:
        call: dict[str, Any] = {"index": piece.index}
        if piece.id or piece.name:
            call |= {"id": piece.id, "type": "function"}
        function = {"name": piece.name} if piece.name else {}
        news["tool_calls"].append({**call, "function": {**function, "arguments": piece.arguments_json}})
    return news


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}


def _usage(usages: Iterable[Usage]) -> dict[str, Any]:
    all_of = list(usages)
    prompt = sum(usage.prompt_tokens for usage in all_of)
    generated = sum(usage.generated_tokens for usage in all_of)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in all_of)},
    }
