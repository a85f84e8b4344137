"""The front door: `AsyncLeptonEngine`, and `LeptonEngine` for those who call and wait."""

import asyncio
import os
import random
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from lepton_engine.assembly import RequestAssembler
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings, refuse_unbuilt
from lepton_engine.core.events import Event, Failed, Started
from lepton_engine.errors import InvalidRequestError, LeptonError, ModelLoadError, UnsupportedError
from lepton_engine.messages import Abort, Admitted, EngineSettings, EngineStats, ModelInfo, Submit
from lepton_engine.outputs import RequestMetrics, RequestOutput, ScoreOutput
from lepton_engine.process.connection import Carrier, Connection, error_of
from lepton_engine.sampling_limits import validate_params
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.text.bad_words import bad_word_token_ids
from lepton_engine.text.tokenizer import Tokenizer
from lepton_engine.weights.locate import locate_checkpoint

Prompt = str | Sequence[int]
T = TypeVar("T")


class _Request:
    """A validated request on its way: its message, its assembler, and the events that have come."""

    def __init__(self, submit: Submit, assembler: RequestAssembler) -> None:
        self.submit = submit
        self.assembler = assembler
        self.events: list[Admitted | Event] = []
        self.failure: LeptonError | None = None
        self.arrived = asyncio.Event()

    def on_event(self, event: Admitted | Event) -> None:
        self.events.append(event)
        self.arrived.set()

    def on_death(self, error: LeptonError) -> None:
        self.failure = error
        self.arrived.set()


class AsyncLeptonEngine:
    """The engine behind an asyncio interface; imports torch only when it runs in this process.

    Args:
        model: folder of a checkpoint, id of one in the local Hugging Face cache, or a loaded `transformers` module.
        tokenizer: folder, `transformers` tokenizer or `Tokenizer`; None takes the one beside the model.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:N".
        dtype: "auto" (the checkpoint's), "float32", "bfloat16", "float16".
        kv_cache_memory: bytes of the KV cache; None measures what is left.
        max_model_len: tokens of prompt and output; None takes what model and KV cache allow.
        max_num_seqs, max_num_batched_tokens: sequences at once, tokens a step.
        max_prefill_chunk: tokens of one prompt a step; None allows all of the step.
        max_queued_requests, max_queued_tokens: bounds of the queue; None is unbounded.
        seed: makes the seeds that are drawn for requests without one repeatable.
        in_process: run in a thread of this process rather than in a process of its own.

    Raises:
        InvalidRequestError: an argument is out of range. UnsupportedError: an option is not built.
        ModelLoadError: there is no such checkpoint, or its tokenizer is damaged.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        quantization: str | None = None,
        kv_cache_dtype: str = "auto",
        kv_cache_memory: int | None = None,
        max_model_len: int | None = None,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int = 1024,
        max_prefill_chunk: int | None = None,
        max_queued_requests: int | None = None,
        max_queued_tokens: int | None = None,
        block_size: int = 16,
        enable_prefix_caching: bool = True,
        batch_invariant: bool = False,
        enforce_eager: bool = False,
        num_threads: int | None = None,
        seed: int | None = None,
        in_process: bool = True,
        overlap: bool | None = None,
    ) -> None:
        refuse_unbuilt(quantization=quantization, kv_cache_dtype=kv_cache_dtype, batch_invariant=batch_invariant)
        module = None if isinstance(model, str | os.PathLike) else model
        folder = locate_checkpoint(model) if module is None else None
        self._settings = EngineSettings(
            model="" if folder is None else str(folder),
            model_settings=ModelSettings(device, dtype, max_model_len, num_threads),
            cache=CacheSettings(kv_cache_memory, block_size, enable_prefix_caching),
            scheduler=SchedulerSettings(
                max_num_seqs, max_num_batched_tokens, max_prefill_chunk, max_queued_requests, max_queued_tokens, overlap
            ),
        )
        if module is not None and not in_process:
            raise UnsupportedError("in_process", "a loaded module cannot be moved to another process, pass a path")
        self.tokenizer = _tokenizer(tokenizer, folder, module)
        self._connection = Connection(self._carrier(in_process, module))
        self._info: ModelInfo | None = None
        self._random = random.Random(seed)

    def _carrier(self, in_process: bool, module: Any) -> Carrier:
        if not in_process:
            from lepton_engine.process.child import ProcessCarrier

            return ProcessCarrier(self._settings)
        from lepton_engine.process.thread import ThreadCarrier

        def build() -> Any:
            from lepton_engine.build import build_core
            from lepton_engine.weights.checkpoint import from_module

            return build_core(self._settings, None if module is None else from_module(module))

        return ThreadCarrier(build)

    async def start(self) -> None:
        """Load the model; returns when requests can come.

        Raises:
            ModelLoadError: the checkpoint or its tokenizer is damaged, or they do not match.
            OutOfMemoryError: weights or KV cache do not fit.
            EngineDeadError: the engine's process ended while loading.
        """
        info = await self._connection.start()
        try:
            self.tokenizer.check_vocabulary(info.vocab_size)
        except ModelLoadError:
            await self.shutdown()
            raise
        self._info = info

    @property
    def model_info(self) -> ModelInfo:
        """What is loaded; known once `start` has returned."""
        if self._info is None:
            raise LeptonError("the model is not loaded yet")
        return self._info

    @property
    def dead(self) -> LeptonError | None:
        """Why the engine no longer runs; None while it does."""
        return self._connection.dead

    def default_params(self) -> SamplingParams:
        """What a request without parameters gets: generation_config.json's over the usual ones."""
        return SamplingParams(**self.model_info.default_sampling)  # type: ignore[arg-type]

    async def generate(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        priority: int = 0,
        tenant: str = "",
        adapter: str = "",
        deadline: float | None = None,
        time_limit: float | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run one request; closing the iterator aborts it.

        With `OutputKind.DELTA` the first output has no completions: it tells that the request has been admitted.

        Args:
            priority: lower runs earlier. tenant: prefixes are shared within one tenant only.
            deadline: `time.monotonic` seconds after which the request fails.
            time_limit: seconds after which it ends with what it has, finish_reason "time_limit".

        Raises:
            InvalidRequestError: the request cannot be run; before the first output.
            QueueFullError: it is not admitted; before the first output.
            DeadlineExceededError, RequestFailedError, EngineDeadError: it has failed.
        """
        request = self._prepare(
            prompt,
            params or self.default_params(),
            request_id=request_id,
            priority=priority,
            tenant=tenant,
            adapter=adapter,
            deadline=deadline,
            time_limit=time_limit,
        )
        self._open(request)
        async for output in self._follow(request):
            yield output

    def _prepare(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        request_id: str | None = None,
        score_only: bool = False,
        adapter: str = "",
        deadline: float | None = None,
        **options: Any,
    ) -> _Request:
        info = self.model_info
        if adapter:
            raise UnsupportedError("adapter", f"{adapter!r}: adapters are not built yet")
        text = prompt if isinstance(prompt, str) else None
        token_ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else _checked_ids(prompt, info.vocab_size)
        room = info.max_model_len - len(token_ids)
        if not token_ids:
            raise InvalidRequestError("prompt", "is empty: at least one token is needed")
        if room < (0 if score_only else 1):
            raise InvalidRequestError(
                "prompt", f"{len(token_ids)} tokens leave no room in the context of {info.max_model_len} tokens"
            )
        eos = info.eos_token_ids
        stop_ids = sorted({*params.stop_token_ids, *(() if params.ignore_eos else eos)})
        bad_words = bad_word_token_ids(self.tokenizer, params.bad_words)
        validate_params(params, info.vocab_size, stop_ids, {ids[0] for ids in bad_words if len(ids) == 1})
        seed = params.seed if params.seed is not None else self._random.getrandbits(63)
        key = uuid.uuid4().hex
        submit = Submit(
            key=key,
            prompt_token_ids=token_ids,
            params=params,
            seed=seed,
            max_tokens=0 if score_only else min(room, params.max_tokens or room),
            stop_token_ids=stop_ids,
            bad_word_ids=[list(ids) for ids in bad_words],
            # Clocks of two processes do not compare, spans of time do.
            deadline=None if deadline is None else deadline - time.monotonic(),
            **options,
        )
        output = RequestOutput(
            request_id or key, text, token_ids, [], False, seed=seed, metrics=RequestMetrics(time.time())
        )
        return _Request(submit, RequestAssembler(output, params, self.tokenizer, eos))

    def _open(self, request: _Request) -> None:
        self._connection.open(request.submit.key, request.submit, request.on_event, request.on_death)

    async def _follow(self, request: _Request) -> AsyncGenerator[RequestOutput, None]:
        """The outputs of an opened request; however this ends, the engine is left without it."""
        assembler, key = request.assembler, request.submit.key
        delta = request.submit.params.output_kind is OutputKind.DELTA
        try:
            while not assembler.finished:
                await request.arrived.wait()
                request.arrived.clear()
                events, request.events = request.events, []
                tell = False
                for event in events:
                    if isinstance(event, Failed):
                        raise error_of(event.kind, event.message)
                    tell = tell or not isinstance(event, Admitted | Started) or delta
                    if not isinstance(event, Admitted):
                        ended = assembler.feed(event)
                        if ended is not None:
                            self._connection.send(Abort(key=key, index=ended, reason="stop"))
                output = assembler.take() if tell else None
                if output is not None:
                    yield output
                if request.failure is not None and not assembler.finished:
                    raise request.failure
        finally:
            self._connection.close(key)
            if not assembler.finished:
                self._connection.send(Abort(key=key))

    async def score(self, prompt: Prompt, *, top: int = 0, **options: Any) -> ScoreOutput:
        """Log-probabilities of a text's tokens, each given those before it; nothing is generated.

        Args:
            top: most likely alternatives reported at each position. options: as in `generate`.

        Raises:
            as `generate`.
        """
        params = SamplingParams(max_tokens=1, prompt_logprobs=top, output_kind=OutputKind.FINAL_ONLY)
        request = self._prepare(prompt, params, score_only=True, **options)
        self._open(request)
        return ScoreOutput.of(await _last(self._follow(request)))

    async def stats(self) -> EngineStats:
        """Counters and gauges of the engine.

        Raises:
            EngineDeadError: the engine has ended.
        """
        stats, _ = await self._connection.query()
        return stats

    async def integrity(self) -> list[str]:
        """What is inconsistent between requests and KV blocks; empty when sound.

        Raises:
            EngineDeadError: the engine has ended.
        """
        _, problems = await self._connection.query(integrity=True)
        return problems

    async def shutdown(self) -> None:
        """End the engine; what still runs fails with EngineDeadError. Safe to call again."""
        await self._connection.stop()


class LeptonEngine:
    """The engine for those who call and wait; the arguments are those of `AsyncLeptonEngine`.

    Use it as a context manager, or call `shutdown`.

    Raises:
        as `AsyncLeptonEngine` and its `start`.
    """

    def __init__(self, model: Any, tokenizer: Any = None, **options: Any) -> None:
        self._engine = AsyncLeptonEngine(model, tokenizer, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lepton-front", daemon=True)
        self._thread.start()
        try:
            self._run(self._engine.start())
        except BaseException:
            self.shutdown()
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise LeptonError("the engine has been shut down")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model."""
        return self._engine.tokenizer

    @property
    def model_info(self) -> ModelInfo:
        """What is loaded."""
        return self._engine.model_info

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        **options: Any,
    ) -> list[RequestOutput]:
        """Run prompts together and wait for all; outputs stand in the order of the prompts.

        Args:
            prompts: text, token ids, or a list of either. sampling_params: one for all, or one each.
            options: as in `AsyncLeptonEngine.generate`.

        Raises:
            as `AsyncLeptonEngine.generate`; the first failure ends the other prompts.
        """
        listed = _as_list(prompts)
        params = _per_prompt(sampling_params, len(listed))
        return self._run(self._generate(listed, params, options))

    async def _generate(
        self, prompts: list[Prompt], params: Sequence[SamplingParams | None], options: Mapping[str, Any]
    ) -> list[RequestOutput]:
        engine = self._engine
        requests = []
        for prompt, wanted in zip(prompts, params, strict=True):
            whole = msgspec.structs.replace(wanted or engine.default_params(), output_kind=OutputKind.FINAL_ONLY)
            requests.append(engine._prepare(prompt, whole, **options))
        # All are prepared before the first is sent, so that the first step already sees them all.
        for request in requests:
            engine._open(request)
        return await _all(_last(engine._follow(request)) for request in requests)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Answer a conversation, or several; messages are {"role": ..., "content": ...}.

        Raises:
            InvalidRequestError: the model has no chat template, or it rejects the messages.
            and as `generate`.
        """
        conversations = [messages] if not messages or isinstance(messages[0], Mapping) else list(messages)
        prompts = [
            self.tokenizer.encode(
                self.tokenizer.apply_chat_template(
                    conversation,  # type: ignore[arg-type]
                    tools=tools,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=continue_final_message,
                    **(chat_template_kwargs or {}),
                ),
                add_special_tokens=False,
            )
            for conversation in conversations
        ]
        return self.generate(prompts, sampling_params)

    def stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None, **options: Any
    ) -> Iterator[RequestOutput]:
        """The outputs of one prompt as they come; closing the iterator ends the request.

        Raises:
            as `generate`.
        """
        outputs = self._engine.generate(prompt, sampling_params, **options)
        try:
            while True:
                output = self._run(_next(outputs))
                if output is None:
                    return
                if output.outputs:
                    yield output
        finally:
            self._run(outputs.aclose())

    def score(self, prompts: Prompt | Sequence[Prompt], *, top: int = 0) -> list[ScoreOutput]:
        """Log-probabilities of texts; see `AsyncLeptonEngine.score`."""
        return self._run(_all(self._engine.score(prompt, top=top) for prompt in _as_list(prompts)))

    def stats(self) -> EngineStats:
        """Counters and gauges of the engine."""
        return self._run(self._engine.stats())

    def integrity(self) -> list[str]:
        """What is inconsistent between requests and KV blocks; empty when sound."""
        return self._run(self._engine.integrity())

    # -- the seed's front door ----------------------------------------------------------------------------------

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self.tokenizer.encode(text)

    def infer(self, input_ids: Any, sampling_params: SamplingParams | None = None) -> Any:
        """Continue token ids: a list (or a tensor of one dimension), or a batch of such.

        Returns:
            Token ids, the given and the generated together; a list of such for a batch.
        """
        given = input_ids.tolist() if hasattr(input_ids, "tolist") else input_ids
        batched = bool(given) and not isinstance(given[0], int)
        outputs = self.generate(given if batched else [given], sampling_params)
        whole = [[*output.prompt_token_ids, *output.outputs[0].token_ids] for output in outputs]
        return whole if batched else whole[0]

    推理 = infer

    def decode(self, outputs: Any) -> Any:
        """Text of token ids, or of a batch of them."""
        given = outputs.tolist() if hasattr(outputs, "tolist") else outputs
        if given and not isinstance(given[0], int):
            return [self.tokenizer.decode(ids) for ids in given]
        return self.tokenizer.decode(given)

    @property
    def closed(self) -> bool:
        """Whether the engine has been shut down."""
        return self._loop.is_closed()

    # -- the end ------------------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End the engine. Safe to call again."""
        if self.closed:
            return
        self._run(self._engine.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


async def _next(outputs: AsyncIterator[RequestOutput]) -> RequestOutput | None:
    return await anext(outputs, None)


async def _last(outputs: AsyncIterator[RequestOutput]) -> RequestOutput:
    last = None
    async for output in outputs:
        last = output
    if last is None:
        raise LeptonError("the request ended without an output")
    return last


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all; the first failure ends the others, and their requests with them."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def _per_prompt(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> Sequence[SamplingParams | None]:
    if params is None or isinstance(params, SamplingParams):
        return [params] * count
    if len(params) != count:
        raise InvalidRequestError("sampling_params", f"{len(params)} are given for {count} prompts")
    return params


def _checked_ids(token_ids: Sequence[int], vocab_size: int) -> list[int]:
    ids = list(token_ids)
    for position, token_id in enumerate(ids):
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < vocab_size:
            raise InvalidRequestError(
                "prompt", f"token id {token_id!r} at position {position} is outside the vocabulary of {vocab_size}"
            )
    return ids


def _tokenizer(given: Any, folder: Path | None, module: Any) -> Tokenizer:
    if isinstance(given, Tokenizer):
        return given
    if isinstance(given, str | os.PathLike):
        return Tokenizer.load(locate_checkpoint(given))
    if given is not None:
        return Tokenizer.from_transformers(given)
    if folder is not None:
        return Tokenizer.load(folder)
    origin = getattr(module, "name_or_path", "")
    if origin and Path(origin).is_dir():
        return Tokenizer.load(origin)
    raise InvalidRequestError("tokenizer", "is needed: the module does not say which folder it was loaded from")
