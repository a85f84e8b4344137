"""TokenizationService: text to tokens and back, and chats to prompts."""

from typing import Any

import grpc

from lepton.v1 import tokenization_pb2_grpc
from lepton.v1.tokenization_pb2 import (
    ApplyChatTemplateRequest,
    ApplyChatTemplateResponse,
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)
from lepton_service import prompts
from lepton_service.engine_api import Tokenizer
from lepton_service.errors import InvalidFieldError, ModelLoadingError
from lepton_service.state import ServerState

Context = grpc.aio.ServicerContext[Any, Any]


class TokenizationServicer(tokenization_pb2_grpc.TokenizationServiceServicer):
    """The tokenizer of a server's model."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def _tokenizer(self, model: str) -> Tokenizer:
        self._state.check_model(model)
        if self._state.engine is None:
            raise ModelLoadingError(f"model {self._state.model_name!r} is still loading")
        return self._state.engine.tokenizer

    async def Tokenize(self, request: TokenizeRequest, context: Context) -> TokenizeResponse:
        """Text to token ids."""
        tokenizer = self._tokenizer(request.model)
        special = request.add_special_tokens if request.HasField("add_special_tokens") else True
        ids = await prompts.off_loop(len(request.text), tokenizer.encode, request.text, add_special_tokens=special)
        return TokenizeResponse(token_ids=ids, model=self._state.model_name)

    async def Detokenize(self, request: DetokenizeRequest, context: Context) -> DetokenizeResponse:
        """Token ids to text."""
        tokenizer = self._tokenizer(request.model)
        ids = list(request.token_ids)
        for index, token in enumerate(ids):
            if token >= tokenizer.vocab_size:
                allowed = f"allowed is 0 to {tokenizer.vocab_size - 1}"
                raise InvalidFieldError(f"token_ids[{index}]", f"{token} is outside the vocabulary, {allowed}")
        skip = request.skip_special_tokens if request.HasField("skip_special_tokens") else True
        text = await prompts.off_loop(len(ids), tokenizer.decode, ids, skip_special_tokens=skip)
        return DetokenizeResponse(text=text, model=self._state.model_name)

    async def ApplyChatTemplate(self, request: ApplyChatTemplateRequest, context: Context) -> ApplyChatTemplateResponse:
        """A conversation to its prompt."""
        tokenizer = self._tokenizer(request.model)
        text, ids = await prompts.render_chat(request.chat, tokenizer)
        return ApplyChatTemplateResponse(text=text, token_ids=ids, model=self._state.model_name)
