"""Texts that must not be generated, as the token sequences that would complete them."""

from collections.abc import Sequence

from lepton_engine.errors import InvalidRequestError
from lepton_engine.text.tokenizer import Tokenizer

_ANCHOR = "\n"  # Tokenizers do not join it with what follows, nor put a space behind it.


def bad_word_token_ids(tokenizer: Tokenizer, bad_words: Sequence[str]) -> list[tuple[int, ...]]:
    """Token sequences for each text, as it stands at a beginning, after a space and inside a text; each once.

    A text that is cut into tokens in another way than the tokenizer would is not found, as in vLLM. Unlike there, the
    spelling inside a text counts too: SentencePiece tokenizers put a space before a beginning, which most Chinese words
    do not have before them.

    Raises:
        InvalidRequestError: a text that the tokenizer turns into no token.
    """
    if not bad_words:
        return []
    anchor = tokenizer.encode(_ANCHOR, add_special_tokens=False)
    found: dict[tuple[int, ...], None] = {}
    for word in bad_words:
        bare = tokenizer.encode(word, add_special_tokens=False)
        if not bare:
            raise InvalidRequestError("sampling_params.bad_words", f"{word!r} is no token in this vocabulary")
        spaced = tokenizer.encode(" " + word.lstrip(), add_special_tokens=False)
        inside = tokenizer.encode(_ANCHOR + word, add_special_tokens=False)
        inside = inside[len(anchor) :] if inside[: len(anchor)] == anchor else []
        found.update(dict.fromkeys(tuple(ids) for ids in (bare, spaced, inside) if ids))
    return list(found)
