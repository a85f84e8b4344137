from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_engine.sampling_params import SamplingParams
from lepton_engine.text.detokenizer import Detokenizer
from lepton_engine.text.stop_strings import StopMatcher
from lepton_engine.text.stream import TextStream
from lepton_engine.text.tokenizer import Tokenizer

Get = Callable[[str], Tokenizer]
KINDS = ["byte_level", "byte_fallback", "unigram", "word_piece"]
WORDS = ["今天", "天气", "the", " dog", "a", "ab", "aba", "\n", "👩‍👧", "好", " ", "."]


def pieces_of(tokenizer: Tokenizer, prompt: list[int], ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer, prompt)
    return [*(detokenizer.feed(token_id) for token_id in ids), detokenizer.flush()]


def expected(pieces: list[str], stops: tuple[str, ...], min_tokens: int, include: bool) -> tuple[str, str | None, int]:
    """Text, stop and tokens of the output by trying every end position in turn."""
    text = "".join(pieces)
    end_of = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
    ignored = end_of[min(min_tokens, len(pieces) - 1) - 1] if min_tokens else 0
    if len(pieces) - 1 <= min_tokens:
        ignored = len(text)
    for end in range(ignored + 1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            token = next(i for i, reached in enumerate(end_of) if reached >= end)
            return text[: end if include else end - len(stop)], stop, min(token + 1, len(pieces) - 1)
    return text, None, len(pieces) - 1


def held_back(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest suffix that begins a stop string without being all of it."""
    proper = (len(stop[:k]) for stop in stops for k in range(len(stop)) if text.endswith(stop[:k]))
    return max(proper, default=0)


stop_lists = st.lists(
    st.one_of(st.sampled_from(WORDS), st.text("ab今天 👩", min_size=1, max_size=4)), min_size=1, max_size=4
).map(tuple)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=125, deadline=None, derandomize=True)
@given(data=st.data())
def test_agrees_with_trying_every_position(tokenizer_of: Get, kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    text = "".join(data.draw(st.lists(st.sampled_from(WORDS), max_size=12)))
    ids = tokenizer.encode(text, add_special_tokens=False)
    ids = data.draw(st.one_of(st.just(ids), st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30)))
    stops = data.draw(stop_lists)
    min_tokens = data.draw(st.sampled_from([0, 0, 1, 3]))
    include = data.draw(st.booleans())
    params = SamplingParams(
        stop=stops, min_tokens=min_tokens, include_stop_str_in_output=include, max_tokens=None, skip_special_tokens=True
    )
    pieces = pieces_of(tokenizer, [], ids)
    final, stop, tokens = expected(pieces, stops, min_tokens, include)

    stream = TextStream(tokenizer, params, [])
    out, counted, at = "", 0, 0
    while at < len(ids):
        size = data.draw(st.integers(1, 5))
        update = stream.push(ids[at : at + size])
        out += update.text
        counted += update.token_count
        at += size
        if update.stop is None:
            certain = "".join(pieces[: min(at, len(ids))])
            assert out == certain[: len(certain) - held_back(certain, stops)]
        else:
            assert update.stop == stop
            assert out == final
    out += stream.finish()
    assert out == final
    assert stream.stop == stop
    assert counted == tokens
    assert stream.push([5]).token_count == (0 if stop is not None else 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(stops=stop_lists, text=st.text("ab今天 👩", max_size=40))
def test_matcher_knows_longest_match_and_what_to_hold(stops: tuple[str, ...], text: str) -> None:
    matcher = StopMatcher(stops)
    state = 0
    for end, character in enumerate(text, start=1):
        state = matcher.step(state, character)
        before = text[:end]
        assert matcher.match[state] == max((len(stop) for stop in stops if before.endswith(stop)), default=0)
        assert matcher.held[state] == held_back(before, stops)


def stream_of(tokenizer: Tokenizer, params: SamplingParams, prompt: str = "") -> TextStream:
    return TextStream(tokenizer, params, tokenizer.encode(prompt))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_a_stop_string_inside_one_token_cuts_it(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    ids = ids_of(tokenizer, " dog")
    assert len(ids) == 1
    stream = stream_of(tokenizer, SamplingParams(stop=("o",)))
    update = stream.push(ids)
    assert (update.text, update.token_count, update.stop) == (" d", 1, "o")
    assert stream.finish() == ""


def test_a_stop_string_across_tokens_never_leaks(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    stream = stream_of(tokenizer, SamplingParams(stop=("\n\nQ:",)))
    out = ""
    stop = None
    for token_id in ids_of(tokenizer, "It is far.\n\nQ: more"):
        update = stream.push([token_id])
        out += update.text
        assert "\n" not in out
        stop = stop or update.stop
    assert (out, stop) == ("It is far.", "\n\nQ:")


def test_what_might_have_become_a_stop_string_is_released(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    stream = stream_of(tokenizer, SamplingParams(stop=("zzz",)))
    assert stream.push(ids_of(tokenizer, "fizz")).text == "fi"
    assert stream.push(ids_of(tokenizer, "y")).text == "zzy"
    assert stream.push(ids_of(tokenizer, "z")).text == ""
    assert stream.finish() == "z"


def test_a_stop_token_counts_and_shows_only_if_included(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    ids = ids_of(tokenizer, "dog")
    last = ids_of(tokenizer, "!")
    stream = stream_of(tokenizer, SamplingParams())
    update = stream.push([*ids, *last], ended_by_token=True)
    assert (update.text + stream.finish(), update.token_count) == ("dog", len(ids) + 1)
    stream = stream_of(tokenizer, SamplingParams(include_stop_str_in_output=True))
    update = stream.push([*ids, *last], ended_by_token=True)
    assert (update.text + stream.finish(), update.token_count) == ("dog!", len(ids) + 1)


def test_special_tokens_show_only_if_asked_for(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    eos = tokenizer.eos_token_id
    assert eos is not None
    ids = [*ids_of(tokenizer, "dog"), eos]
    assert stream_of(tokenizer, SamplingParams()).push(ids).text == "dog"
    assert stream_of(tokenizer, SamplingParams(skip_special_tokens=False)).push(ids).text == "dog</s>"


def test_stop_strings_wait_for_min_tokens_and_may_span_them(tokenizer_of: Get) -> None:
    tokenizer = tokenizer_of("byte_level")
    ids = ids_of(tokenizer, "a!b!c")
    assert len(ids) == 5
    stream = stream_of(tokenizer, SamplingParams(stop=("!",), min_tokens=2))
    assert [stream.push([token_id]).text for token_id in ids] == ["a", "!", "b", "", ""]
    assert stream.stop == "!"
    stream = stream_of(tokenizer, SamplingParams(stop=("!b",), min_tokens=2))
    assert "".join(stream.push([token_id]).text for token_id in ids) == "a"
    assert stream.stop == "!b"


def test_without_detokenisation_tokens_are_only_counted(tokenizer_of: Get) -> None:
    stream = stream_of(tokenizer_of("byte_level"), SamplingParams(detokenize=False))
    update = stream.push([7, 8, 9])
    assert (update.text, update.token_count, update.stop, stream.finish()) == ("", 3, None, "")
