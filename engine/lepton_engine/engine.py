"""The front door: `LeptonEngine`, for those who call and wait; `AsyncLeptonEngine` stands behind it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import msgspec

from lepton_engine.async_engine import AsyncLeptonEngine, Prompt, last_output
from lepton_engine.errors import InvalidRequestError, LeptonError
from lepton_engine.messages import EngineStats, ModelInfo
from lepton_engine.outputs import RequestOutput, ScoreOutput
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.text.tokenizer import Tokenizer

__all__ = ["AsyncLeptonEngine", "LeptonEngine"]

T = TypeVar("T")


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
            requests.append(engine.prepare(prompt, whole, **options))
        # All are prepared before the first is sent, so that the first step already sees them all.
        for request in requests:
            engine.open(request)
        return await _all(last_output(engine.follow(request)) for request in requests)

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
