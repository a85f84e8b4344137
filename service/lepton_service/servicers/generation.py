"""GenerationService: streams and whole answers."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from lepton.v1 import generation_pb2_grpc
from lepton.v1.generation_pb2 import Choice, CompleteRequest, CompleteResponse, GenerateRequest, GenerateResponse
from lepton_engine.errors import InvalidRequestError
from lepton_engine.outputs import CompletionOutput, RequestOutput
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_service import prompts
from lepton_service.arrival import REQUEST_ID_KEY, Arrival, arrival
from lepton_service.calls import current_call
from lepton_service.converters import outputs as events
from lepton_service.converters import sampling
from lepton_service.converters.fields import proto_path
from lepton_service.errors import ContextLengthError, InvalidFieldError, ResourceNotFoundError
from lepton_service.flow import Coalescing, coalesced
from lepton_service.state import ServerState
from lepton_service.tools.calls import ToolCalls
from lepton_service.tools.plan import ToolPlan, tool_plan

AnyRequest = GenerateRequest | CompleteRequest
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Admissible:
    """A request that has passed every check of the front end."""

    arrival: Arrival
    kind: str
    prompt: list[int]
    params: SamplingParams
    priority: int
    time_limit: float | None
    max_queue_time: float | None
    token_ids: bool
    coalescing: Coalescing | None
    tools: ToolPlan | None
    skip_special_tokens: bool


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Runs requests on the engine of a server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def Generate(  # type: ignore[override]
        self, request: GenerateRequest, context: Context
    ) -> None:
        """Streams what is generated."""
        work = await self._check(request, context, OutputKind.DELTA)
        with self._state.in_flight(work.arrival.tenant, work.arrival.request_id):
            outputs = self._submit(request, work)
            async with aclosing(outputs):  # type: ignore[type-var]
                first = await self._admitted(outputs, work)
                await context.send_initial_metadata(((REQUEST_ID_KEY, work.arrival.request_id),))
                stream = _Stream(request, work, self._state.model_name, context)
                await stream.send(first)
                if work.coalescing is None:
                    async for output in outputs:
                        await stream.send(output)
                else:
                    async with aclosing(coalesced(outputs, work.coalescing)) as merged:  # type: ignore[type-var]
                        async for output in merged:
                            await stream.send(output)

    async def Complete(self, request: CompleteRequest, context: Context) -> CompleteResponse:
        """Answers once, at the end."""
        work = await self._check(request, context, OutputKind.FINAL_ONLY)
        with self._state.in_flight(work.arrival.tenant, work.arrival.request_id):
            outputs = self._submit(request, work)
            async with aclosing(outputs):  # type: ignore[type-var]
                last = await self._admitted(outputs, work)
                await context.send_initial_metadata(((REQUEST_ID_KEY, work.arrival.request_id),))
                async for output in outputs:
                    last = output
        return self._response(request, work, last)

    async def _check(self, request: AnyRequest, context: Context, output: OutputKind) -> Admissible:
        """Everything that can be refused before the engine sees the request, and the request's tokens."""
        state = self._state
        state.check_model(request.model)
        engine = state.ready_engine()
        info = engine.model_info
        arrived = arrival(request.request_id, context)
        if request.adapter:
            raise ResourceNotFoundError("adapter", request.adapter, f"adapter {request.adapter!r} is not loaded")
        params = sampling.sampling_params(request, output, info.vocab_size, info.default_sampling, info.eos_token_ids)
        coalescing = sampling.coalescing(request.output, streamed=output is OutputKind.DELTA)
        priority = sampling.priority(request)
        limit = sampling.time_limit(request, state.max_stream_seconds)
        queue_time = sampling.max_queue_time(request)
        given = request.WhichOneof("prompt")
        tools = tool_plan(request.chat, engine.tokenizer) if given == "chat" else None
        special = request.add_special_tokens if request.HasField("add_special_tokens") else None
        prompt = await prompts.prompt_ids(request, given, special, engine.tokenizer)
        skip_special_tokens = params.skip_special_tokens
        if tools is not None:
            params = tools.params(params)
        kind: str = given or "prompt"
        prompts.check_prompt(prompt, kind, info.vocab_size, info.max_model_len - 1)
        if len(prompt) + params.min_tokens > info.max_model_len:
            room = info.max_model_len - len(prompt)
            raise ContextLengthError(
                "stop.min_tokens", f"{params.min_tokens} exceeds the {room} tokens that the context has room for"
            )
        events.check_prompt_logprobs(len(prompt), params.prompt_logprobs)
        call = current_call.get()
        if call is not None:
            call.prompt_tokens, call.params, call.streamed = len(prompt), params, output is OutputKind.DELTA
            call.operation = "chat" if given == "chat" else "text_completion"
        return Admissible(
            arrival=arrived,
            kind=kind,
            prompt=prompt,
            params=params,
            priority=priority,
            time_limit=limit,
            max_queue_time=queue_time,
            token_ids=events.wants_token_ids(request.output),
            coalescing=coalescing,
            tools=tools,
            skip_special_tokens=skip_special_tokens,
        )

    def _submit(self, request: AnyRequest, work: Admissible) -> AsyncIterator[RequestOutput]:
        return self._state.ready_engine().generate(
            work.prompt,
            work.params,
            request_id=work.arrival.request_id,
            priority=work.priority,
            tenant=work.arrival.tenant,
            adapter=request.adapter,
            deadline=work.arrival.deadline,
            time_limit=work.time_limit,
            max_queue_time=work.max_queue_time,
        )

    async def _admitted(self, outputs: AsyncIterator[RequestOutput], work: Admissible) -> RequestOutput:
        """The engine's first output, which says that it has admitted the request."""
        try:
            first = await anext(outputs)
        except InvalidRequestError as error:
            field = proto_path(error.field, prompts.path(work.kind))
            if work.tools is not None and field.startswith("constraint"):
                field = "chat.tools"  # The grammar that does not compile is made of their schemas.
            raise InvalidFieldError(field, error.reason) from error
        call = current_call.get()
        if call is not None and not first.finished:
            call.admitted = time.time()
        return first

    def _response(self, request: CompleteRequest, work: Admissible, output: RequestOutput) -> CompleteResponse:
        generated = sum(len(part.token_ids) for part in output.outputs)
        call = current_call.get()
        if call is not None:
            call.generated_tokens = generated
            call.note_output(output)
        ordered: list[CompletionOutput] = sorted(output.outputs, key=lambda part: part.index)
        calls = ToolCalls(work.tools, work.skip_special_tokens)
        response = CompleteResponse(
            started=events.started(output, work.arrival.request_id, self._state.model_name, request.output),
            choices=[self._choice(part, output, work, calls) for part in ordered],
            usage=events.usage(output, generated),
        )
        whole = len(output.prompt_token_ids)
        for scored in events.prompt_logprobs(output, work.params.prompt_logprobs, per_message=max(1, whole)):
            response.prompt_logprobs.CopyFrom(scored)
        return response

    def _choice(self, part: CompletionOutput, output: RequestOutput, work: Admissible, calls: ToolCalls) -> Choice:
        made = calls.take_whole(part)
        choice = events.choice(part, output, work.token_ids, work.params.logprobs)
        choice.tool_calls.extend(made)
        return choice


class _Stream:
    """Writes the outputs of one request as events."""

    def __init__(self, request: GenerateRequest, work: Admissible, model: str, context: Context) -> None:
        self._request = request
        self._work = work
        self._model = model
        self._context = context
        self._generated = [0] * work.params.n
        self._begun = self._scored = False
        self._calls = ToolCalls(work.tools, work.skip_special_tokens)

    async def send(self, output: RequestOutput) -> None:
        """Writes what is new: how the request began, while its first step is computed, then what it generates."""
        metrics = output.metrics
        if not self._begun and (output.outputs or (metrics is not None and metrics.first_scheduled_time is not None)):
            self._begun = True
            started = events.started(output, self._work.arrival.request_id, self._model, self._request.output)
            await self._context.write(GenerateResponse(started=started))
        if not output.outputs:
            return
        if not self._scored:
            self._scored = True
            for scored in events.prompt_logprobs(output, self._work.params.prompt_logprobs):
                await self._context.write(GenerateResponse(prompt_logprobs=scored))
        write, work = self._context.write, self._work
        for part in output.outputs:
            self._generated[part.index] += len(part.token_ids)
            calls = self._calls.take(part)
            delta = events.delta(part, work.token_ids, work.params.logprobs, calls)
            if delta is not None:
                await write(GenerateResponse(delta=delta))
            if part.finished:
                end = events.finished(part, output, self._generated[part.index])
                await write(GenerateResponse(finished=end))
        call = current_call.get()
        if call is not None:
            call.generated_tokens = sum(self._generated)
            call.note_output(output)
