"""The front door for asyncio: validates, submits, follows."""

import dataclasses
import functools
import os
import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lepton_engine.assembly import RequestAssembler
from lepton_engine.backlog import MAX_UNREAD_BYTES
from lepton_engine.config import CacheSettings, ModelSettings, SchedulerSettings, SpeculationSettings
from lepton_engine.core.events import Failed, Preempted, Spent, Started
from lepton_engine.errors import (
    EngineDeadError,
    InvalidRequestError,
    LeptonError,
    ModelLoadError,
    UnsupportedError,
)
from lepton_engine.messages import Abort, Admitted, DropClient, EngineSettings, EngineStats, ModelInfo, Submit
from lepton_engine.outputs import RequestMetrics, RequestOutput, ScoreOutput
from lepton_engine.prepared import PreparedRequest, check_times, checked_ids
from lepton_engine.process.connection import Carrier, Connection
from lepton_engine.process.member import MemberCarrier
from lepton_engine.process.options import ProcessOptions
from lepton_engine.quantization.scheme import parse_scheme
from lepton_engine.sampling_limits import validate_params
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.text.bad_words import bad_word_token_ids
from lepton_engine.text.tokenizer import Tokenizer
from lepton_engine.weights.locate import locate_checkpoint

Prompt = str | Sequence[int]

# What alone is no news to those who want whole outputs.
_QUIET = (Admitted, Started, Preempted, Spent)


class AsyncLeptonEngine:
    """The engine behind an asyncio interface; imports torch only when it runs in this process.

    Args:
        model: folder of a checkpoint, id of one in the local Hugging Face cache, or a loaded `transformers` module.
        tokenizer: folder, `transformers` tokenizer or `Tokenizer`; None takes the one beside the model.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:N".
        dtype: "auto" (the checkpoint's), "float32", "bfloat16", "float16".
        quantization: scheme by which plain weights are quantised while they are loaded, such as "int8" or "int4-g32"
            (`quantization.scheme`); quantised checkpoints need none.
        kv_cache_dtype: "auto" (the model's), "int8" or "fp8".
        kv_cache_memory: bytes of the KV cache; None measures what is left.
        max_model_len: tokens of prompt and output; None takes what model and KV cache allow.
        max_num_seqs, max_num_batched_tokens: sequences at once, tokens a step.
        max_prefill_chunk: tokens of one prompt a step; None allows all of the step.
        max_queued_requests, max_queued_tokens: bounds of the queue; None is unbounded.
        max_queue_time: seconds that a request may wait before it begins to run; None is unbounded.
        tenant_limits: file with the limits of tenants (`lepton_engine.tenant_limits`); None limits nobody.
        seed: makes the seeds that are drawn for requests without one repeatable.
        batch_invariant: a request and its seed give bit-identical tokens whatever else runs.
        in_process: run in a thread of this process rather than in a process of its own.
        speculation: how drafts are proposed; None runs without. Goes without `overlap`.
        max_unread_bytes: of one request's output that may wait for its reader (an estimate); a request with more fails
            with SlowReaderError.
        process: how the process is kept, or which one is joined, where `in_process` is False.

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
        max_queue_time: float | None = None,
        tenant_limits: str | os.PathLike[str] | None = None,
        block_size: int = 16,
        enable_prefix_caching: bool = True,
        batch_invariant: bool = False,
        enforce_eager: bool = False,
        num_threads: int | None = None,
        seed: int | None = None,
        in_process: bool = True,
        overlap: bool | None = None,
        speculation: SpeculationSettings | None = None,
        max_unread_bytes: int = MAX_UNREAD_BYTES,
        process: ProcessOptions | None = None,
    ) -> None:
        if max_unread_bytes < 1:
            raise InvalidRequestError("max_unread_bytes", f"{max_unread_bytes} is not at least 1")
        self._max_unread = max_unread_bytes
        scheme = None if quantization is None else parse_scheme(quantization).name
        module = None if isinstance(model, str | os.PathLike) else model
        folder = locate_checkpoint(model) if module is None else None
        self._settings = EngineSettings(
            model="" if folder is None else str(folder),
            model_settings=ModelSettings(
                device, dtype, max_model_len, num_threads, scheme, enforce_eager, batch_invariant
            ),
            cache=CacheSettings(kv_cache_memory, block_size, enable_prefix_caching, kv_cache_dtype),
            scheduler=SchedulerSettings(
                max_num_seqs,
                max_num_batched_tokens,
                max_prefill_chunk,
                max_queued_requests,
                max_queued_tokens,
                overlap,
                max_queue_time,
                None if tenant_limits is None else os.path.abspath(tenant_limits),
            ),
            speculation=_located(speculation, overlap),
            tokenizer=str(locate_checkpoint(tokenizer)) if isinstance(tokenizer, str | os.PathLike) else "",
        )
        if module is not None and not in_process:
            raise UnsupportedError("in_process", "a loaded module cannot be moved to another process, pass a path")
        self.tokenizer = _tokenizer(tokenizer, folder, module)
        if not in_process and tokenizer is not None and not self._settings.tokenizer:
            self._settings = msgspec.structs.replace(self._settings, tokenizer_json=self.tokenizer.backend.to_str())
        self._carrier = self._make_carrier(in_process, module, process)
        self._connection = Connection(self._carrier)
        self._info: ModelInfo | None = None
        self._random = random.Random(seed)

    def _make_carrier(self, in_process: bool, module: Any, process: "ProcessOptions | None") -> Carrier:
        if not in_process:
            return (process or ProcessOptions()).carrier(self._settings)
        from lepton_engine.process.thread import ThreadCarrier

        def build() -> Any:
            from lepton_engine.build import build_core
            from lepton_engine.weights.checkpoint import from_module

            checkpoint = None if module is None else from_module(module)
            return build_core(self._settings, checkpoint, tokenizer_json=self.tokenizer.backend.to_str)

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
        max_queue_time: float | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run one request; closing the iterator aborts it.

        With `OutputKind.DELTA` the first output has no completions: it tells that the request has been admitted and,
        where its time in the queue is bounded, that it has begun to run.

        Args:
            priority: lower runs earlier. tenant: prefixes are shared within one tenant only; of one priority tenants
                are served fairly.
            deadline: `time.monotonic` seconds after which the request fails.
            time_limit: seconds after which it ends with what it has, finish_reason "time_limit".
            max_queue_time: seconds after which it is refused if it has not begun to run.

        Raises:
            InvalidRequestError: the request cannot be run; before the first output.
            AdmissionError: it is not admitted, for load or a limit of its tenant; before the first output.
            DeadlineExceededError, RequestFailedError, EngineDeadError: it has failed.
        """
        request = self.prepare(
            prompt,
            params or self.default_params(),
            request_id=request_id,
            priority=priority,
            tenant=tenant,
            adapter=adapter,
            deadline=deadline,
            time_limit=time_limit,
            max_queue_time=max_queue_time,
        )
        self.open(request)
        async for output in self.follow(request):
            yield output

    def prepare(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        request_id: str | None = None,
        score_only: bool = False,
        adapter: str = "",
        deadline: float | None = None,
        **options: Any,
    ) -> PreparedRequest:
        """Validate a request and tokenise its prompt, without sending it; the arguments are those of `generate`.

        Raises:
            InvalidRequestError: the request cannot be run.
        """
        info = self.model_info
        check_times(deadline, options)
        if adapter:
            raise UnsupportedError("adapter", f"{adapter!r}: adapters are not built yet")
        text = prompt if isinstance(prompt, str) else None
        token_ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else checked_ids(prompt, info.vocab_size)
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
            request_id=request_id or "",
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
        return PreparedRequest(submit, RequestAssembler(output, params, self.tokenizer, eos), self._max_unread)

    def open(self, request: PreparedRequest) -> None:
        """Send a prepared request; `follow` must come after, or the engine runs it to its end for nobody.

        Raises:
            EngineDeadError: the engine has ended.
        """
        key = request.submit.key
        self._connection.open(key, request.submit, request.on_event, request.on_death)
        request.give_up = functools.partial(self._give_up, key)

    def _give_up(self, key: str) -> None:
        self._connection.close(key)
        self._connection.send(Abort(key=key))

    async def follow(self, request: PreparedRequest) -> AsyncGenerator[RequestOutput, None]:
        """The outputs of an opened request; however this ends, the engine is left without it."""
        assembler, key = request.assembler, request.submit.key
        delta = request.submit.params.output_kind is OutputKind.DELTA
        try:
            while not assembler.finished:
                await request.arrived.wait()
                request.arrived.clear()
                events = request.backlog.take()
                tell = False
                for event in events:
                    if isinstance(event, Failed):
                        raise event.error()
                    tell = tell or not isinstance(event, _QUIET) or delta
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
        request = self.prepare(prompt, params, score_only=True, **options)
        self.open(request)
        return ScoreOutput.of(await last_output(self.follow(request)))

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

    @property
    def address(self) -> str:
        """Where other front ends reach the engine's process.

        Raises:
            EngineDeadError: it has none, or has not been started.
        """
        found = getattr(self._carrier, "address", None)
        if not isinstance(found, str):
            raise EngineDeadError("the engine runs in this process")
        return found

    def drop_client(self, client: str) -> None:
        """Tell the engine that a front end which joined it has gone: its requests end."""
        self._connection.send(DropClient(client=client))

    def lose(self, error: LeptonError) -> None:
        """Tell an engine that was joined that its process has ended."""
        if isinstance(self._carrier, MemberCarrier):
            self._carrier.lose(error)

    def kill(self) -> None:
        """Let `shutdown` end the engine's process without waiting for its step."""
        self._connection.kill()

    async def shutdown(self) -> None:
        """End the engine; what still runs fails with EngineDeadError. Safe to call again."""
        await self._connection.stop()


async def last_output(outputs: AsyncIterator[RequestOutput]) -> RequestOutput:
    """The output that a request ends with."""
    last = None
    async for output in outputs:
        last = output
    if last is None:
        raise LeptonError("the request ended without an output")
    return last


def _located(speculation: SpeculationSettings | None, overlap: bool | None) -> SpeculationSettings | None:
    if speculation is None or speculation.model is None:
        found = speculation
    else:
        found = dataclasses.replace(speculation, model=str(locate_checkpoint(speculation.model)))
    if speculation is not None and overlap:
        raise InvalidRequestError("overlap", "True does not go with speculation: drafts need each step's tokens")
    return found


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
