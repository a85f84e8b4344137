"""From a request's events to its outputs: text, log-probabilities, the end. Imports no torch."""

from collections.abc import Sequence

from lepton_engine.core.events import Event, NewTokens, Preempted, PromptScores, Spent, Started, TokenLogprobs
from lepton_engine.outputs import CompletionOutput, Logprob, Logprobs, RequestMetrics, RequestOutput
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.text.stream import TextStream
from lepton_engine.text.tokenizer import Tokenizer


class _Choice:
    """One of the request's sequences: all of it so far, or, for deltas, what is new since it was last told."""

    def __init__(self, index: int, text: TextStream | None, with_logprobs: bool) -> None:
        self.text = text
        self.whole = CompletionOutput(index, logprobs=[] if with_logprobs else None)
        self.news = CompletionOutput(index, logprobs=[] if with_logprobs else None)
        self.changed = False


class RequestAssembler:
    """Collects the events of one request.

    Args:
        tokenizer: None when no text is wanted and there is none.
        eos_token_ids: stop tokens that are not told as the stop reason, unless params.ignore_eos.
    """

    def __init__(
        self,
        output: RequestOutput,
        params: SamplingParams,
        tokenizer: Tokenizer | None,
        eos_token_ids: Sequence[int],
    ) -> None:
        self._output = output
        self._params = params
        self._eos = frozenset() if params.ignore_eos else frozenset(eos_token_ids)
        self._choices = []
        for index in range(params.n):
            stream = TextStream(tokenizer, params, output.prompt_token_ids) if tokenizer is not None else None
            self._choices.append(_Choice(index, stream, params.logprobs is not None))
        self._kind = params.output_kind
        self._open = params.n

    @property
    def finished(self) -> bool:
        """Whether every sequence has ended."""
        return self._open == 0

    def feed(self, event: Event) -> int | None:
        """Take in an event; the index of a sequence that a stop string has ended, which the engine must be told."""
        if isinstance(event, NewTokens):
            return self._feed_tokens(event)
        if isinstance(event, Started):
            self._output.num_cached_tokens = event.num_cached_tokens
            if self._output.metrics is not None:
                self._output.metrics.first_scheduled_time = event.scheduled_time
        elif isinstance(event, PromptScores):
            self._feed_scores(event)
        elif self._output.metrics is not None:
            if isinstance(event, Preempted):
                self._output.metrics.preemption_times += (event.time,)
            elif isinstance(event, Spent):
                self._output.metrics.joules = event.joules
        return None

    def _feed_tokens(self, event: NewTokens) -> int | None:
        choice = self._choices[event.index]
        whole = choice.whole
        if whole.finished:
            return None
        reason = event.finish_reason
        stop_reason: int | str | None = event.stop_reason
        by_token = reason == "stop" and stop_reason is not None  # not by a grammar
        text, count, stopped = "", len(event.token_ids), False
        if choice.text is not None and event.token_ids:
            update = choice.text.push(event.token_ids, ended_by_token=by_token)
            text, count = update.text, update.token_count
            if update.stop is not None:
                stopped = reason is None
                reason, stop_reason = "stop", update.stop
        if isinstance(stop_reason, int) and stop_reason in self._eos:
            stop_reason = None
        if reason is not None and choice.text is not None:
            text += choice.text.finish()
            if reason != "stop" and choice.text.stop is not None:
                reason, stop_reason = "stop", choice.text.stop
        logprobs = event.logprobs[:count] if event.logprobs is not None else None
        # A stream's past is not kept: it may be long, and nobody asks for it.
        target = choice.news if self._kind is OutputKind.DELTA else whole
        target.text += text
        target.token_ids.extend(event.token_ids[:count])
        if logprobs is not None and target.logprobs is not None:
            target.logprobs.extend(map(_logprobs, event.token_ids, logprobs))
        for told in (whole, choice.news):
            told.finish_reason = reason
            told.stop_reason = stop_reason
        if logprobs is not None:
            total = (whole.cumulative_logprob or 0.0) + sum(entry.logprob for entry in logprobs)
            whole.cumulative_logprob = choice.news.cumulative_logprob = total
        choice.changed = True
        self._note_times(event)
        if reason is not None:
            self._open -= 1
        return event.index if stopped else None

    def _note_times(self, event: NewTokens) -> None:
        metrics = self._output.metrics
        if metrics is None:
            return
        if event.token_ids and metrics.first_token_time is None:
            metrics.first_token_time = event.time
        metrics.finished_time = event.time

    def _feed_scores(self, event: PromptScores) -> None:
        prompt = self._output.prompt_token_ids
        if self._output.prompt_logprobs is None:
            self._output.prompt_logprobs = [None] * len(prompt)
        for position, entry in enumerate(event.entries, event.start):
            self._output.prompt_logprobs[position] = _logprobs(prompt[position], entry)

    def take(self) -> RequestOutput | None:
        """What the request's output kind tells now; None when there is nothing to tell yet."""
        if self._kind is OutputKind.FINAL_ONLY and not self.finished:
            return None
        changed = [choice for choice in self._choices if choice.changed]
        if self._kind is OutputKind.DELTA:
            outputs = [choice.news for choice in changed]
            for choice in changed:
                choice.news = CompletionOutput(
                    choice.whole.index, logprobs=None if choice.news.logprobs is None else []
                )
                choice.news.cumulative_logprob = choice.whole.cumulative_logprob
        else:
            if not changed:
                return None
            outputs = [_copy(choice.whole) for choice in self._choices]
        for choice in changed:
            choice.changed = False
        told = self._output
        return RequestOutput(
            told.request_id,
            told.prompt,
            told.prompt_token_ids,
            outputs,
            self.finished,
            told.num_cached_tokens,
            told.seed,
            told.prompt_logprobs,
            RequestMetrics(**vars(told.metrics)) if told.metrics is not None else None,
        )


def _copy(output: CompletionOutput) -> CompletionOutput:
    return CompletionOutput(
        output.index,
        output.text,
        list(output.token_ids),
        None if output.logprobs is None else list(output.logprobs),
        output.cumulative_logprob,
        output.finish_reason,
        output.stop_reason,
    )


def _logprobs(token_id: int, entry: TokenLogprobs) -> Logprobs:
    """The most likely tokens, and the token itself wherever it ranks."""
    found = {
        top: Logprob(logprob, rank)
        for rank, (top, logprob) in enumerate(zip(entry.top_ids, entry.top_logprobs, strict=True), 1)
    }
    found.setdefault(token_id, Logprob(entry.logprob, entry.rank))
    return found
