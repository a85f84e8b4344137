"""The client: `LeptonClient` and `AsyncLeptonClient`, with errors that say what a status means.

with LeptonClient("localhost:50051") as client:
    for text in client.generate("Once upon a time", max_tokens=64).texts():
        print(text, end="", flush=True)
"""

from lepton_service.client.aio import AsyncLeptonClient, AsyncStream
from lepton_service.client.channel import SERVICE_CONFIG, ChannelTLS, channel_options
from lepton_service.client.errors import (
    CancelledError,
    DeadlineExceededError,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    LeptonClientError,
    NotFoundError,
    PermissionError,
    ResourceExhaustedError,
    UnavailableError,
    UnsupportedError,
)
from lepton_service.client.requests import Prompt, complete_request, generate_request, score_request
from lepton_service.client.sync import LeptonClient, Stream
from lepton_service.client.token import PlaintextTokenError, Token, token_file

__all__ = [
    "SERVICE_CONFIG",
    "AsyncLeptonClient",
    "AsyncStream",
    "CancelledError",
    "ChannelTLS",
    "DeadlineExceededError",
    "FieldViolation",
    "InternalError",
    "InvalidArgumentError",
    "LeptonClient",
    "LeptonClientError",
    "NotFoundError",
    "PermissionError",
    "PlaintextTokenError",
    "Prompt",
    "ResourceExhaustedError",
    "Stream",
    "Token",
    "UnavailableError",
    "UnsupportedError",
    "channel_options",
    "complete_request",
    "generate_request",
    "score_request",
    "token_file",
]
