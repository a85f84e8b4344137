"""The client for threads."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

import grpc

from lepton.v1 import generation_pb2_grpc, model_pb2_grpc, scoring_pb2_grpc, stats_pb2_grpc, tokenization_pb2_grpc
from lepton.v1.generation_pb2 import CompleteResponse, GenerateRequest, GenerateResponse
from lepton.v1.model_pb2 import GetModelRequest, ListModelsRequest, Model
from lepton.v1.scoring_pb2 import ScoreResponse
from lepton.v1.stats_pb2 import GetStatsRequest, Stats, WatchStatsRequest
from lepton.v1.tokenization_pb2 import (
    ApplyChatTemplateRequest,
    ApplyChatTemplateResponse,
    DetokenizeRequest,
    TokenizeRequest,
)
from lepton_service.client.channel import ChannelTLS, channel_options
from lepton_service.client.errors import from_rpc_error
from lepton_service.client.requests import (
    Message,
    Options,
    Prompt,
    ScoreOptions,
    chat_prompt,
    complete_request,
    generate_request,
    score_request,
)
from lepton_service.client.token import BearerToken, Token, call_metadata
from lepton_service.client.tracing import trace_context
from lepton_service.converters.durations import to_duration

T = TypeVar("T")


class Stream:
    """Events of one request. Leaving it as a context manager, or `cancel`, stops the work on the server."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> Iterator[GenerateResponse]:
        """The events in order. Raises LeptonClientError."""
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def texts(self, choice: int = 0) -> Iterator[str]:
        """The text of one choice, piece by piece. Raises LeptonClientError."""
        for event in self:
            if event.WhichOneof("event") == "delta" and event.delta.choice == choice and event.delta.text:
                yield event.delta.text

    def cancel(self) -> None:
        """Stops the work on the server."""
        self._call.cancel()

    def __enter__(self) -> "Stream":
        """The stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancels what still runs."""
        self.cancel()


class LeptonClient:
    """Calls a server. Every method raises LeptonClientError when its call fails.

    Args:
        target: `host:port`, or any gRPC target (`dns:///name:50051`).
        tls: None for plaintext.
        token: bearer token that the server asks for, or what gives it, asked at every call.
        allow_plaintext_token: send it without TLS to other machines, too.
        metadata: sent with every call.
        retry: whether refused calls are tried again by the published service config, as the server asks.
        timeout: seconds for calls that are not given one of their own; None for no deadline.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: ChannelTLS | None = None,
        token: Token | None = None,
        allow_plaintext_token: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
        timeout: float | None = None,
        retry: bool = True,
    ) -> None:
        options = channel_options(tls, retry=retry)
        self._token: BearerToken | None = None
        if token is not None:
            self._token = BearerToken(token, target, encrypted=tls is not None, allow_plaintext=allow_plaintext_token)
        if tls is None:
            self.channel = grpc.insecure_channel(target, options=options)
        else:
            credentials = tls.credentials()
            if self._token is not None:
                credentials = self._token.secure(credentials)
            self.channel = grpc.secure_channel(target, credentials, options=options)
        self._metadata = tuple(metadata)
        self._timeout = timeout
        self._generation = generation_pb2_grpc.GenerationServiceStub(self.channel)
        self._scoring = scoring_pb2_grpc.ScoringServiceStub(self.channel)
        self._tokenization = tokenization_pb2_grpc.TokenizationServiceStub(self.channel)
        self._models = model_pb2_grpc.ModelServiceStub(self.channel)
        self._stats = stats_pb2_grpc.StatsServiceStub(self.channel)

    def _call(self, method: Callable[..., T], request: Any, timeout: float | None = None) -> T:
        limit = self._timeout if timeout is None else timeout
        try:
            return method(
                request, timeout=limit, metadata=(*self._metadata, *trace_context(), *call_metadata(self._token))
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def generate(self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[Options]) -> Stream:
        """Streams what is generated. `timeout` is the call's deadline in seconds."""
        return self.generate_from(generate_request(prompt, **options), timeout)

    def generate_from(self, request: GenerateRequest, timeout: float | None = None) -> Stream:
        """Streams what is generated for a request of the contract."""
        return Stream(self._call(self._generation.Generate, request, timeout))

    def complete(self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[Options]) -> CompleteResponse:
        """Generates and answers once."""
        return self._call(self._generation.Complete, complete_request(prompt, **options), timeout)

    def score(self, prompt: Prompt, *, timeout: float | None = None, **options: Unpack[ScoreOptions]) -> ScoreResponse:
        """Log-probabilities and perplexity of a text."""
        return self._call(self._scoring.Score, score_request(prompt, **options), timeout)

    def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        request = TokenizeRequest(text=text, add_special_tokens=add_special_tokens)
        return list(self._call(self._tokenization.Tokenize, request).token_ids)

    def detokenize(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of token ids."""
        request = DetokenizeRequest(token_ids=token_ids, skip_special_tokens=skip_special_tokens)
        return self._call(self._tokenization.Detokenize, request).text

    def apply_chat_template(self, messages: Sequence[Message]) -> ApplyChatTemplateResponse:
        """The prompt of a conversation, as text and token ids."""
        return self._call(self._tokenization.ApplyChatTemplate, ApplyChatTemplateRequest(chat=chat_prompt(messages)))

    def get_model(self, name: str = "") -> Model:
        """One model."""
        return self._call(self._models.GetModel, GetModelRequest(name=name)).model

    def list_models(self) -> list[Model]:
        """All models."""
        return list(self._call(self._models.ListModels, ListModelsRequest()).models)

    def stats(self) -> Stats:
        """What the server is doing now."""
        return self._call(self._stats.GetStats, GetStatsRequest()).stats

    def watch_stats(self, interval: float = 1.0) -> Iterator[Stats]:
        """What the server is doing, every `interval` seconds."""
        call = self._call(self._stats.WatchStats, WatchStatsRequest(interval=to_duration(interval)))
        try:
            for response in call:
                yield response.stats
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Closes the channel; running calls are cancelled."""
        self.channel.close()

    def __enter__(self) -> "LeptonClient":
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the channel."""
        self.close()
