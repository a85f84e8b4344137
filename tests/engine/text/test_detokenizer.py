from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_engine.text.detokenizer import Detokenizer
from lepton_engine.text.tokenizer import Tokenizer

KINDS = ["byte_level", "byte_fallback", "unigram", "word_piece"]
REPLACEMENT = "�"
Get = Callable[[str], Tokenizer]

texts = st.text(
    st.one_of(st.sampled_from("今天天气很好，公园 the dog is in park.\n👩‍👧🇨🇳é "), st.characters(codec="utf-8")),
    max_size=40,
)


def stream(tokenizer: Tokenizer, prompt: list[int], output: list[int], skip: bool = True) -> list[str]:
    detokenizer = Detokenizer(tokenizer, prompt, skip)
    return [*(detokenizer.feed(token_id) for token_id in output), detokenizer.flush()]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=texts, data=st.data())
def test_text_comes_out_as_from_decoding_at_once(tokenizer_of: Get, kind: str, text: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text)
    cut = data.draw(st.integers(0, len(ids)))
    pieces = stream(tokenizer, ids[:cut], ids[cut:])
    whole = tokenizer.decode(ids)
    before = tokenizer.decode(ids[:cut])
    if not before.endswith(REPLACEMENT):
        assert before + "".join(pieces) == whole
    else:  # the prompt ends inside a character, which belongs to the output that finishes it
        assert whole.endswith("".join(pieces))
        finished = [tokenizer.decode(ids[: max(0, cut - unfinished)]) for unfinished in range(4)]
        assert whole.removesuffix("".join(pieces)) in [*finished, before.rstrip(REPLACEMENT)]
    if REPLACEMENT not in whole:
        assert not any(REPLACEMENT in piece for piece in pieces)


@pytest.mark.parametrize("kind", ["byte_level", "unigram", "word_piece"])
@pytest.mark.parametrize("skip", [True, False])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_ids_come_out_as_from_decoding_at_once(
    tokenizer_of: Get, kind: str, skip: bool, data: st.DataObject
) -> None:
    tokenizer = tokenizer_of(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=60))
    assert "".join(stream(tokenizer, [], ids, skip)) == tokenizer.decode(ids, skip_special_tokens=skip)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(raw=st.lists(st.integers(0, 255), max_size=60))
def test_random_bytes_are_held_back_no_longer_than_a_character(tokenizer_of: Get, raw: list[int]) -> None:
    tokenizer = tokenizer_of("byte_level")
    ids = [tokenizer.token_to_id(BYTE_TO_CHARACTER[byte]) for byte in raw]
    detokenizer = Detokenizer(tokenizer, [])
    out = ""
    for count, token_id in enumerate(ids, start=1):
        assert token_id is not None
        out += detokenizer.feed(token_id)
        due = bytes(raw[:count]).decode(errors="replace")
        assert due.startswith(out)
        assert len(due) - len(out) <= 3
        if not due.endswith(REPLACEMENT):
            assert out == due
        assert len(detokenizer._window) <= 32
    assert out + detokenizer.flush() == bytes(raw).decode(errors="replace")


def _byte_to_character() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(rest)}


BYTE_TO_CHARACTER = _byte_to_character()


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data())
def test_byte_fallback_with_invalid_runs_gives_each_character_once(tokenizer_of: Get, data: st.DataObject) -> None:
    """A run with one bad byte decodes to U+FFFD as a whole; what came out before stays, and no text is lost after."""
    tokenizer = tokenizer_of("byte_fallback")
    first = tokenizer.token_to_id("<0x00>")
    dog = tokenizer.encode("the dog", add_special_tokens=False)
    assert first is not None
    runs = data.draw(st.lists(st.lists(st.integers(0, 255), max_size=12), max_size=4))
    ids = [token_id for run in runs for token_id in [*(first + byte for byte in run), *dog]]
    rest = "".join(stream(tokenizer, dog, ids))
    for run in runs:
        head, found, rest = rest.partition(" the dog")
        assert found
        valid = bytes(run).decode(errors="replace").partition(REPLACEMENT)[0]  # was certain when it came
        assert head.startswith(valid)
        assert (REPLACEMENT in head) == (valid.encode() != bytes(run))
    assert rest == ""


def test_finished_characters_are_released_before_an_unfinished_one(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    space_and_half = tokenizer.backend.token_to_id("Ġ")
    first, second, third = (tokenizer.token_to_id(BYTE_TO_CHARACTER[byte]) for byte in "你".encode())
    assert None not in (space_and_half, first, second, third)
    detokenizer = Detokenizer(tokenizer, [])
    assert [detokenizer.feed(i) for i in (space_and_half, first, second, third)] == [" ", "", "", "你"]  # type: ignore[arg-type]


def test_an_unfinished_character_at_the_end_is_flushed(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    first = tokenizer.token_to_id(BYTE_TO_CHARACTER["你".encode()[0]])
    assert first is not None
    detokenizer = Detokenizer(tokenizer, [])
    assert detokenizer.feed(first) == ""
    assert detokenizer.flush() == REPLACEMENT
    assert detokenizer.flush() == ""


@pytest.mark.parametrize("kind", ["byte_fallback", "unigram"])
def test_the_first_token_keeps_the_space_that_joins_it_to_the_prompt(tokenizer_of: Get, kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    prompt = tokenizer.encode("the")
    output = tokenizer.encode("the dog")[len(prompt) :]
    assert "".join(stream(tokenizer, prompt, output)) == " dog"


def test_a_long_output_keeps_a_short_window(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    eos = tokenizer.eos_token_id
    assert eos is not None
    detokenizer = Detokenizer(tokenizer, tokenizer.encode("The dog " * 500))
    for token_id in tokenizer.encode("今天 the dog 👍🏽 " * 50) + [eos] * 100:
        detokenizer.feed(token_id)
        assert len(detokenizer._window) <= 32
