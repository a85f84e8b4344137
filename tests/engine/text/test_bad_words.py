from collections.abc import Callable

import pytest

from lepton_engine.errors import InvalidRequestError
from lepton_engine.text.bad_words import bad_word_token_ids
from lepton_engine.text.tokenizer import Tokenizer

Get = Callable[[str], Tokenizer]


def test_both_spellings_are_found(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    found = bad_word_token_ids(tokenizer, ["dog"])
    assert tuple(tokenizer.encode("dog", add_special_tokens=False)) in found
    assert tuple(tokenizer.encode(" dog", add_special_tokens=False)) in found
    assert len(found) == 2


def test_each_sequence_once(tokenizer_of: Get) -> None:
    found = bad_word_token_ids(tokenizer_of("byte_level"), ["dog", " dog", "dog"])
    assert len(found) == len(set(found)) == 2


def test_none_for_none(tokenizer_of: Get) -> None:
    assert bad_word_token_ids(tokenizer_of("byte_level"), []) == []


def test_a_word_without_tokens_is_refused(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("word_piece")
    assert tokenizer.encode("\n", add_special_tokens=False) == []
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.bad_words.*'\\n'"):
        bad_word_token_ids(tokenizer, ["\n"])


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram"])
@pytest.mark.parametrize(("before", "word"), [("今天", "天气"), ("the", " dog"), ("", "the"), ("(", "dog")])
def test_a_word_is_found_wherever_it_stands(tokenizer_of: Get, kind: str, before: str, word: str) -> None:
    tokenizer = tokenizer_of(kind)
    text = tokenizer.encode(before + word, add_special_tokens=False)
    banned = bad_word_token_ids(tokenizer, [word])
    assert any(tuple(text[-len(ids) :]) == ids for ids in banned)
