"""Texts that must not be generated, as the token sequences that would complete them."""

from collections.abc import Sequence

from lepton_engine.errors import InvalidRequestError
from lepton_engine.text.tokenizer import Tokenizer


def bad_word_token_ids(tokenizer: Tokenizer, bad_words: Sequence[str]) -> list[tuple[int, ...]]:
    """Token sequences for each text, as it stands at a beginning and after a space; each sequence once.

    As vLLM does: a text that is cut into tokens in another way than the tokenizer would is not found.

    Raises:
        InvalidRequestError: a text that the tokenizer turns into no token.
    """
    found: dict[tuple[int, ...], None] = {}
    for word in bad_words:
        bare = tuple(tokenizer.encode(word, add_special_tokens=False))
        if not bare:
            raise InvalidRequestError("sampling_params.bad_words", f"{word!r} is no token in this vocabulary")
        found[bare] = None
        spaced = tuple(tokenizer.encode(" " + word.lstrip(), add_special_tokens=False))
        if spaced:
            found[spaced] = None
    return list(found)
