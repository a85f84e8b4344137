"""Completions and chat completions: requests of the contract run in this process, answers as JSON or events."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from lepton.v1.generation_pb2 import CompleteRequest, CompleteResponse, GenerateResponse
from lepton_service.http import body, chat, completions, schema
from lepton_service.http.answers import Form
from lepton_service.http.errors import from_status, json_field
from lepton_service.http.exchange import Exchange
from lepton_service.http.in_process import CallError, Methods
from lepton_service.http.tokens import TokenTexts
from lepton_service.prompts import off_loop
from lepton_service.state import ServerState

COMPLETE = "/lepton.v1.GenerationService/Complete"
GENERATE = "/lepton.v1.GenerationService/Generate"

T = TypeVar("T")


class Generation:
    """Handlers of the two generating endpoints."""

    def __init__(self, state: ServerState, methods: Methods) -> None:
        self._state = state
        self._methods = methods
        self._texts: TokenTexts | None = None

    async def completions(self, exchange: Exchange, data: bytes) -> None:
        """`POST /v1/completions`."""
        given = await off_loop(len(data), body.decode, data, completions.CompletionBody)
        requests = await off_loop(len(data), completions.requests, given)
        await self._answer(exchange, given, requests, "completion", given.logprobs is not None, json_field)

    async def chat(self, exchange: Exchange, data: bytes) -> None:
        """`POST /v1/chat/completions`."""
        given = await off_loop(len(data), body.decode, data, chat.ChatBody)
        request = await off_loop(len(data), chat.request, given)

        def rename(path: str) -> str:
            field = json_field(path)
            if field == "max_tokens" and given.max_completion_tokens is not None:
                return "max_completion_tokens"
            if field.startswith("constraint") and given.response_format is not None:
                return "response_format"
            return "top_logprobs" if field == "logprobs" else field

        await self._answer(exchange, given, [request], "chat", bool(given.logprobs), rename)

    async def _answer(
        self,
        exchange: Exchange,
        given: schema.GenerationBody,
        requests: Sequence[CompleteRequest],
        kind: str,
        logprobs: bool,
        rename: Callable[[str], str],
    ) -> None:
        form = Form(
            request_id=exchange.request_id,
            model=self._state.model_name,
            created=int(time.time()),
            texts=self._token_texts,
            choices=1 if given.n is None else given.n,
            logprobs=logprobs,
            include_usage=given.stream_options is not None and bool(given.stream_options.include_usage),
            kind=kind,
        )
        try:
            if given.stream:
                await self._stream(exchange, form, requests)
            else:
                await self._whole(exchange, form, requests)
        except CallError as error:
            await exchange.refuse(from_status(error.status, rename))

    async def _whole(self, exchange: Exchange, form: Form, requests: Sequence[CompleteRequest]) -> None:
        def call(number: int) -> Awaitable[CompleteResponse]:
            return self._methods.unary(COMPLETE, requests[number], exchange.origin(_suffix(number)))

        responses = await _together([call(number) for number in range(len(requests))])
        await exchange.json(form.whole(responses))

    async def _stream(self, exchange: Exchange, form: Form, requests: Sequence[CompleteRequest]) -> None:
        admission = _Admission(len(requests), exchange.begin_events)

        def call(number: int) -> Awaitable[None]:
            async def write(event: GenerateResponse) -> None:
                for chunk in form.chunks(number, event):
                    await exchange.event(chunk)

            request = schema.copied(requests[number])
            return self._methods.stream(GENERATE, request, exchange.origin(_suffix(number)), write, admission.one)

        await _together([call(number) for number in range(len(requests))])
        for chunk in form.last():
            await exchange.event(chunk)
        await exchange.end_events()

    def _token_texts(self) -> TokenTexts:
        if self._texts is None:
            self._texts = TokenTexts(self._state.ready_engine().tokenizer)
        return self._texts


class _Admission:
    """Begins the response when all of its requests are admitted, so that a refusal of one can still be its status."""

    def __init__(self, requests: int, begin: Callable[[], Awaitable[None]]) -> None:
        self._missing = requests
        self._begin = begin
        self._all = asyncio.Event()

    async def one(self) -> None:
        """One more is admitted; returns when all are."""
        self._missing -= 1
        if self._missing == 0:
            await self._begin()
            self._all.set()
        await self._all.wait()


async def _together(works: Sequence[Awaitable[T]]) -> list[T]:
    """The results of all; the first error ends the others."""
    if len(works) == 1:
        return [await works[0]]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _suffix(number: int) -> str:
    return f"-{number}" if number else ""
