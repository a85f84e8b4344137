"""The engine's front door before a loop that computes nothing: it checks what it is asked for, and makes tokens up."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from lepton_engine import embedded
from lepton_engine.async_engine import AsyncLeptonEngine
from lepton_engine.core.events import Failed, NewTokens, PromptScores, Started, TokenLogprobs
from lepton_engine.errors import InvalidRequestError, LeptonError
from lepton_engine.grammar.compiler import GrammarCompiler
from lepton_engine.grammar.vocabulary import Vocabulary
from lepton_engine.messages import Admitted, Answer, Command, EngineStats, ModelInfo, Query, Ready, Replies, Submit
from lepton_engine.text.tokenizer import Tokenizer

CONTEXT = 2048
SAID = 'Well. <tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>'

Reply = Admitted | Started | PromptScores | NewTokens | Failed


class InvalidCallError(Exception):
    """The front door has let something through that the loop must never see."""


class StandInEngine(AsyncLeptonEngine):
    """The front door as it is; its messages go to a `StandInLoop`."""

    def __init__(self) -> None:
        # The loop answers all at once, which no reader could keep up with.
        super().__init__(embedded.path(), in_process=False, max_unread_bytes=1 << 40)

    def _make_carrier(self, in_process: bool, module: Any, process: Any) -> "StandInLoop":
        return StandInLoop(self.tokenizer)


class StandInLoop:
    """Answers every request at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._said = tokenizer.encode(SAID, add_special_tokens=False)
        self._deliver: Callable[[Replies], None] = lambda replies: None
        eos = [0]
        vocabulary = Vocabulary(tokenizer.backend.to_str(), tokenizer.vocab_size, eos)
        self._compiler = GrammarCompiler(lambda: vocabulary)
        self._info = ModelInfo(
            family="stand-in",
            dtype="float32",
            device="cpu",
            max_model_len=CONTEXT,
            vocab_size=tokenizer.vocab_size,
            num_parameters=1,
            weight_bytes=4,
            block_size=16,
            num_kv_blocks=1000,
            kv_cache_bytes=1 << 20,
            max_num_seqs=256,
            max_num_batched_tokens=1024,
            eos_token_ids=eos,
            default_sampling={},
            load_seconds=0.0,
        )

    async def start(self, deliver: Callable[[Replies], None], died: Callable[[LeptonError], None]) -> None:
        """Is ready at once."""
        self._deliver = deliver
        deliver([Ready(self._info)])

    def send(self, command: Command) -> None:
        """Takes a command through the wire's format, and answers."""
        command = msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=Command)
        if isinstance(command, Submit):
            self._check(command)
            self._deliver(list(self._replies(command)))
        elif isinstance(command, Query):
            zero: dict[str, Any] = dict.fromkeys(EngineStats.__struct_fields__, 0)
            figures = EngineStats(**{**zero, "mean_request_seconds": None, "energy_source": ""})
            self._deliver([Answer(command.number, figures, [])])

    def kill(self) -> None:
        """Nothing runs."""

    async def stop(self) -> None:
        """Nothing runs."""

    def _check(self, submit: Submit) -> None:
        params, size = submit.params, self._info.vocab_size
        tokens = submit.prompt_token_ids
        lists = [tokens, submit.stop_token_ids, *submit.bad_word_ids, list(params.logit_bias or ())]
        held = {
            "a prompt": 0 < len(tokens) <= CONTEXT,
            "token ids": all(0 <= token < size for ids in lists for token in ids),
            "max_tokens": 0 <= submit.max_tokens <= CONTEXT - len(tokens),
            "min_tokens": 0 <= params.min_tokens <= max(submit.max_tokens, params.min_tokens if not params.n else 0)
            or submit.max_tokens == 0,
            "temperature": 0 <= params.temperature < math.inf,
            "top_p": 0 < params.top_p <= 1,
            "n": 1 <= params.n <= 1024,
            "priority": -100 <= submit.priority <= 100,
            "time_limit": submit.time_limit is None or 0 < submit.time_limit < math.inf,
            "max_queue_time": submit.max_queue_time is None or 0 < submit.max_queue_time < math.inf,
            "seed": 0 <= submit.seed < 1 << 63,
            "bias": all(math.isfinite(bias) for bias in (params.logit_bias or {}).values()),
        }
        broken = [name for name, holds in held.items() if not holds]
        if broken:
            raise InvalidCallError(f"the engine was called with a bad {', '.join(broken)}: {submit}")

    def _replies(self, submit: Submit) -> Iterator[Reply]:
        params, key = submit.params, submit.key
        if params.structured_outputs is not None:
            try:
                self._compiler.compile(params.structured_outputs, submit.tenant)
            except InvalidRequestError as error:
                yield Failed(key, type(error).__name__, str(error))
                return
        yield Admitted(key)
        yield Started(key, 0, 1.0)
        if params.prompt_logprobs is not None:
            entries = [_scores(params.prompt_logprobs, token) for token in submit.prompt_token_ids[1:]]
            yield PromptScores(key, 1, entries)
        if submit.max_tokens == 0:
            yield NewTokens(key, 0, [], finish_reason="length", time=2.0)
            return
        made = self._said[: submit.max_tokens]
        for index in range(params.n):
            for place, token in enumerate(made, 1):
                scores = None if params.logprobs is None else [_scores(params.logprobs, token)]
                yield NewTokens(key, index, [token], scores, "length" if place == len(made) else None, None, 2.0)


def _scores(top: int, token: int) -> TokenLogprobs:
    return TokenLogprobs(-0.5, 1, list(range(top)), [-1.0 - rank for rank in range(top)])
