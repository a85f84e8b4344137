"""The model's vocabulary as llguidance sees it: the bytes of each token, and which tokens end an output."""

import json
from collections.abc import Sequence

from llguidance import LLTokenizer

from lepton_engine.errors import UnsupportedError
from lepton_engine.structured_outputs import FIELD

_END = "<|lepton-end-of-output|>"


class Vocabulary:
    """Token ids and their bytes.

    llguidance knows byte-level and byte-fallback tokenizers (those of GPT, Llama, Qwen, Mistral, Gemma); special tokens
    have no bytes and are allowed only where a grammar names them.

    Attributes:
        tokenizer: llguidance's. words: int32 words of a mask, one bit a token.
        eos_token_ids: of the model. A grammar that may end allows them all.

    Args:
        tokenizer_json: as `tokenizers` writes it.
        vocab_size: columns of the model's logits, at least the tokenizer's ids.

    Raises:
        UnsupportedError: a tokenizer of another kind.
    """

    def __init__(self, tokenizer_json: str, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self.eos_token_ids = tuple(eos_token_ids)
        ends = list(eos_token_ids)
        if not ends:
            # llguidance wants one. Its bit lies behind the model's last token, so it is never sampled.
            tokenizer_json, ends = _with_end(tokenizer_json, vocab_size), [vocab_size]
            vocab_size += 1
        try:
            self.tokenizer = LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=ends)
        except ValueError as error:
            raise UnsupportedError(
                FIELD, f"the model's tokenizer is of a kind that grammars do not know: {error}"
            ) from error
        self.words = -(-self.tokenizer.vocab_size // 32)


def _with_end(tokenizer_json: str, token_id: int) -> str:
    tokenizer = json.loads(tokenizer_json)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"].append({"id": token_id, "content": _END, **flags, "special": True})
    return json.dumps(tokenizer)
