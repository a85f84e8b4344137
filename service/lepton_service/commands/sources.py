"""Where the terminal commands take their text from: a server, or an engine in this process."""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from lepton_service.client import LeptonClient, LeptonClientError
from lepton_service.client.requests import Message
from lepton_service.commands.arguments import client_options, engine_options

TextPrompt = str | Sequence[Message]


class SourceError(Exception):
    """Text could not be had; the message says why, in one sentence."""


@dataclass
class Summary:
    """What is known when an output has ended. Times in seconds."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    first_token: float = 0.0
    total: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        decode = self.total - self.first_token
        rate = (self.generated_tokens - 1) / decode if self.generated_tokens > 1 and decode > 0 else 0.0
        return (
            f"{self.prompt_tokens} prompt tokens, {self.generated_tokens} generated, ended by {self.reason}; "
            f"first token after {self.first_token * 1000:.0f} ms, then {rate:.1f} tokens/s"
        )


class Source(Protocol):
    """Gives text, piece by piece."""

    def stream(self, prompt: TextPrompt, options: dict[str, Any], summary: Summary) -> Iterator[str]:
        """The text of an output; `summary` is filled in by its end. Raises SourceError."""


class ServerSource:
    """A server."""

    def __init__(self, client: LeptonClient) -> None:
        self._client = client

    def stream(self, prompt: TextPrompt, options: dict[str, Any], summary: Summary) -> Iterator[str]:
        """See Source."""
        began = time.monotonic()
        try:
            with self._client.generate(prompt, **options) as events:
                for event in events:
                    kind = event.WhichOneof("event")
                    if kind == "started":
                        summary.prompt_tokens = event.started.prompt_tokens
                    elif kind == "delta":
                        summary.first_token = summary.first_token or time.monotonic() - began
                        yield event.delta.text
                    elif kind == "finished":
                        summary.generated_tokens = event.finished.usage.generated_tokens
                        summary.reason = _reason(event.finished.reason)
        except LeptonClientError as error:
            raise SourceError(str(error)) from error
        summary.total = time.monotonic() - began


class LocalSource:
    """An engine in this process."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def stream(self, prompt: TextPrompt, options: dict[str, Any], summary: Summary) -> Iterator[str]:
        """See Source."""
        from lepton_engine.errors import LeptonError
        from lepton_engine.sampling_params import OutputKind, SamplingParams

        began = time.monotonic()
        tokenizer = self._engine.tokenizer
        try:
            if isinstance(prompt, str):
                ids = tokenizer.encode(prompt)
            else:
                ids = tokenizer.encode(tokenizer.apply_chat_template(list(prompt)), add_special_tokens=False)
            given = {"max_tokens": None, **self._engine.model_info.default_sampling, **options}
            params = SamplingParams(**given, output_kind=OutputKind.DELTA)
            summary.prompt_tokens = len(ids)
            for output in self._engine.stream(ids, params):
                for part in output.outputs:
                    if part.token_ids:
                        summary.first_token = summary.first_token or time.monotonic() - began
                    summary.generated_tokens += len(part.token_ids)
                    summary.reason = part.finish_reason or summary.reason
                    yield part.text
        except LeptonError as error:
            raise SourceError(str(error)) from error
        summary.total = time.monotonic() - began


def _reason(value: int) -> str:
    from lepton.v1.generation_pb2 import FinishReason

    return FinishReason.Name(value).removeprefix("FINISH_REASON_").lower()  # type: ignore[arg-type]


def open_source(args: argparse.Namespace) -> AbstractContextManager[Source]:
    """The source that `--server`, or else `--model`, names. Raises SourceError when it cannot be opened."""
    return _server(args) if args.server is not None else _local(args)


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[Source]:
    try:
        client = LeptonClient(args.server, **client_options(args))
    except OSError as error:
        raise SourceError(f"file {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise SourceError(str(error)) from error
    with client:
        yield ServerSource(client)


@contextmanager
def _local(args: argparse.Namespace) -> Iterator[Source]:
    try:
        from lepton_engine import LeptonEngine, embedded
        from lepton_engine.errors import LeptonError
    except ImportError as error:
        raise SourceError(f"no --server is given, and the engine is not installed here: {error}") from error
    try:
        engine = LeptonEngine(embedded.path() if args.model is None else args.model, **engine_options(args))
    except LeptonError as error:
        raise SourceError(str(error)) from error
    with engine:
        yield LocalSource(engine)
