"""What the service needs of the engine: the part of AsyncLeptonEngine's front door that it calls.

The types are the engine's own, all of them free of torch.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from lepton_engine.messages import EngineStats, ModelInfo
from lepton_engine.outputs import RequestOutput, ScoreOutput
from lepton_engine.sampling_params import SamplingParams


class Tokenizer(Protocol):
    """The model's tokenizer and chat template."""

    @property
    def vocab_size(self) -> int:
        """The highest token id plus one."""

    @property
    def chat_template(self) -> object | None:
        """None where the checkpoint has none."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Tokens that are left out of a text unless it is asked otherwise."""

    def token_to_id(self, token: str) -> int | None:
        """The id of a token as the vocabulary writes it; None if there is no such token."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids."""

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **template_args: Any,
    ) -> str:
        """The prompt text of a conversation."""


class Engine(Protocol):
    """The engine as the service sees it."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Usable before `start` returns."""

    @property
    def model_info(self) -> ModelInfo:
        """Known once `start` has returned."""

    async def start(self) -> None:
        """Returns when the model is loaded."""

    def generate(
        self,
        prompt: str | list[int],
        params: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        tenant: str = "",
        adapter: str = "",
        deadline: float | None = None,
        time_limit: float | None = None,
        max_queue_time: float | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """Outputs of one request, the first when it is admitted; closing the iterator aborts the request."""

    async def score(
        self,
        prompt: str | list[int],
        *,
        top: int = 0,
        request_id: str | None = None,
        priority: int = 0,
        tenant: str = "",
        adapter: str = "",
        deadline: float | None = None,
        max_queue_time: float | None = None,
    ) -> ScoreOutput:
        """Log-probabilities of a prompt's tokens; cancelling it aborts the request."""

    async def stats(self) -> EngineStats:
        """The figures now."""

    async def shutdown(self) -> None:
        """Ends the engine."""

    def kill(self) -> None:
        """Lets `shutdown` end the engine without waiting for its step."""
