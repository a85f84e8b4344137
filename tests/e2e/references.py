"""What undisturbed streams say: requests of fixed seeds, and the tokens that every repetition of one must give.

A repetition may ask for fewer tokens: it then has to give the first ones of the reference, and their text. So how long
a stream takes can follow the speed of the servers, and is no part of what it must say.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import grpc
from tokenizers import Tokenizer

from lepton.v1 import generation_pb2_grpc
from lepton.v1.generation_pb2 import FinishReason, GenerateRequest
from lepton_engine import embedded

LONGEST = 960  # Tokens of an output; with the prompt they fit the embedded model's context of 1,024.
_OPENINGS = (
    "Once upon a time",
    "In the morning",
    "The old man went to the market and",
    "从前有一个小孩",
    "It rained all day, so",
    "妈妈早上起来",
    "A small dog",
    "Tom and his sister walked to the river.",
)


class NoReferenceError(Exception):
    """An undisturbed server did not give what a reference needs."""


@dataclass(frozen=True)
class Reference:
    """A request and what it gives.

    Attributes:
        prompt, seed: of the request. token_ids: the output, LONGEST tokens at most.
    """

    prompt: str
    seed: int
    token_ids: tuple[int, ...]

    def text(self, tokens: int) -> str:
        """The text of its first tokens."""
        return str(_tokenizer().decode(list(self.token_ids[:tokens]), skip_special_tokens=True))

    def problem(self, tokens: int, token_ids: Sequence[int], text: str) -> str:
        """How an output of so many tokens differs from this one; empty when it does not."""
        if len(token_ids) != tokens:
            return f"{len(token_ids)} tokens instead of {tokens}"
        for place, (found, wanted) in enumerate(zip(token_ids, self.token_ids, strict=False)):
            if found != wanted:
                return f"token {place} is {found} instead of {wanted}"
        return "" if text == self.text(tokens) else f"the same tokens, but another text: {text[-60:]!r}"


def request(prompt: str, seed: int, tokens: int) -> GenerateRequest:
    """A stream of exactly so many tokens, a few messages a second."""
    made = GenerateRequest(text=prompt)
    made.sampling.seed = seed
    made.sampling.temperature = 0.9
    made.stop.max_tokens = tokens
    made.stop.ignore_eos = True
    made.output.coalescing.max_tokens = 64
    made.output.coalescing.max_delay.FromMilliseconds(500)
    return made


async def collect(target: str, count: int = 24, longest: int = LONGEST, at_once: int = 8) -> list[Reference]:
    """The references, from a server that nothing disturbs.

    Raises:
        NoReferenceError: it gave something else than a whole output.
    """
    turn = asyncio.Semaphore(at_once)
    async with grpc.aio.insecure_channel(target) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)

        async def one(number: int) -> Reference:
            prompt, text, ids = _OPENINGS[number % len(_OPENINGS)], "", list[int]()
            reason = FinishReason.FINISH_REASON_UNSPECIFIED
            async with turn:
                async for event in stub.Generate(request(prompt, 1000 + number, longest)):
                    ids.extend(event.delta.token_ids)
                    text += event.delta.text
                    if event.HasField("finished"):
                        reason = event.finished.reason
            made = Reference(prompt, 1000 + number, tuple(ids))
            problem = made.problem(longest, ids, text)
            if problem or reason != FinishReason.FINISH_REASON_LENGTH:
                raise NoReferenceError(f"{prompt!r}, seed {1000 + number}: {problem or FinishReason.Name(reason)}")
            return made

        return list(await asyncio.gather(*(one(number) for number in range(count))))


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(embedded.path() / "tokenizer.json"))
