"""Events in, outputs out: kinds of output, stops, log-probabilities, prompt scores and times."""

from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lepton_engine.assembly import RequestAssembler
from lepton_engine.core.events import NewTokens, PromptScores, Started, TokenLogprobs
from lepton_engine.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.text.tokenizer import Tokenizer

PROMPT = [40, 41, 42]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Every byte a token, and <eos>."""
    alphabet = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = tokenizers.Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<eos>"])
    return Tokenizer(backend)


EOS = 256


class Line:
    """A request's assembler, fed by texts of one character a token."""

    def __init__(self, tokenizer: Tokenizer, with_text: bool = True, **fields: Any) -> None:
        self.tokenizer = tokenizer
        output = RequestOutput("r", None, PROMPT, [], False, seed=3, metrics=RequestMetrics(100.0))
        params = SamplingParams(max_tokens=100, **fields)
        self.assembler = RequestAssembler(output, params, tokenizer if with_text else None, [EOS])

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def feed(
        self,
        text: str | Sequence[int],
        index: int = 0,
        reason: str | None = None,
        stop: int | None = None,
        logprobs: list[TokenLogprobs] | None = None,
        time: float = 0.0,
    ) -> int | None:
        ids = self.ids(text) if isinstance(text, str) else list(text)
        return self.assembler.feed(NewTokens("k", index, ids, logprobs, reason, stop, time))

    def told(self) -> RequestOutput:
        output = self.assembler.take()
        assert output is not None
        return output

    def one(self) -> CompletionOutput:
        return self.told().outputs[0]


@pytest.mark.parametrize("kind", OutputKind)
def test_sequences_that_take_turns(tokenizer: Tokenizer, kind: OutputKind) -> None:
    line = Line(tokenizer, n=3, output_kind=kind)
    turns = [("ab", 0, None), ("x", 2, None), ("c", 0, None), ("!", 1, "length"), ("d", 0, "length"), ("y", 2, "abort")]
    whole: dict[int, str] = dict.fromkeys(range(3), "")
    added: dict[int, str] = dict.fromkeys(range(3), "")
    for number, (text, index, reason) in enumerate(turns):
        assert line.feed(text, index, reason) is None
        whole[index] += text
        output = line.assembler.take()
        last = number == len(turns) - 1
        assert line.assembler.finished == last
        if kind is OutputKind.FINAL_ONLY and not last:
            assert output is None
            continue
        assert output is not None
        assert output.finished == last
        if kind is OutputKind.DELTA:
            assert [choice.index for choice in output.outputs] == [index]
            assert output.outputs[0].text == text
            assert output.outputs[0].token_ids == line.ids(text)
            assert output.outputs[0].finish_reason == reason
            added[index] += output.outputs[0].text
        else:
            assert [choice.index for choice in output.outputs] == [0, 1, 2]
            assert [choice.text for choice in output.outputs] == list(whole.values())
            assert [choice.token_ids for choice in output.outputs] == [line.ids(text) for text in whole.values()]
    if kind is OutputKind.DELTA:
        assert added == whole


def test_several_events_between_two_looks_are_told_at_once(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, n=2, output_kind=OutputKind.DELTA)
    line.feed("a")
    line.feed("z", 1)
    line.feed("b")
    assert [(choice.index, choice.text) for choice in line.told().outputs] == [(0, "ab"), (1, "z")]
    assert line.told().outputs == []


def test_outputs_that_were_told_stay_as_they_are(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, logprobs=0)
    line.feed("a", logprobs=[TokenLogprobs(-1.0, 1, [], [])])
    first = line.one()
    line.feed("b", logprobs=[TokenLogprobs(-2.0, 1, [], [])])
    assert line.one().text == "ab"
    assert (first.text, first.token_ids, len(first.logprobs or ())) == ("a", line.ids("a"), 1)
    assert line.assembler.take() is None


@pytest.mark.parametrize("kept", [False, True])
def test_a_stop_string_across_deltas(tokenizer: Tokenizer, kept: bool) -> None:
    line = Line(
        tokenizer, n=2, stop=["END"], include_stop_str_in_output=kept, output_kind=OutputKind.DELTA, detokenize=True
    )
    seen = ""
    for text in ("a", "E", "N"):
        assert line.feed(text, 1) is None
        seen += "".join(choice.text for choice in line.told().outputs)
    assert seen == "a"
    assert line.feed("Dbehind", 1) == 1  # The engine must be told which sequence has ended.
    last = line.one()
    assert last.index == 1
    assert last.text == ("END" if kept else "")
    assert last.token_ids == line.ids("D")
    assert (last.finish_reason, last.stop_reason) == ("stop", "END")
    assert line.feed("more", 1) is None
    assert line.feed([], 1, "stop") is None  # The engine's answer to being told.
    assert line.told().outputs == []
    assert not line.assembler.finished
    line.feed("b", 0, "length")
    assert line.assembler.finished


def test_what_was_held_back_comes_at_the_end(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, stop=["END"], output_kind=OutputKind.DELTA)
    line.feed("aEN")
    assert line.one().text == "a"
    line.feed([], reason="length")
    last = line.one()
    assert (last.text, last.token_ids, last.finish_reason) == ("EN", [], "length")


def test_a_stop_string_wins_over_the_end_by_length_in_the_same_step(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, stop=["END"])
    assert line.feed("xEND", reason="length") is None  # The engine has ended it already.
    told = line.one()
    assert (told.text, told.finish_reason, told.stop_reason) == ("x", "stop", "END")
    assert line.assembler.finished


@pytest.mark.parametrize(("kept", "text"), [(False, "ab"), (True, "ab#")])
def test_the_text_of_a_stop_token(tokenizer: Tokenizer, kept: bool, text: str) -> None:
    line = Line(tokenizer, include_stop_str_in_output=kept)
    stop = line.ids("#")[0]
    line.feed("ab#", reason="stop", stop=stop)
    told = line.one()
    assert told.text == text
    assert told.token_ids == line.ids("ab#")
    assert (told.finish_reason, told.stop_reason) == ("stop", stop)


def test_end_of_sequence_is_no_stop_reason(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer)
    line.feed([*line.ids("a"), EOS], reason="stop", stop=EOS)
    told = line.one()
    assert (told.text, told.finish_reason, told.stop_reason) == ("a", "stop", None)


def test_end_of_sequence_is_a_stop_token_like_others_where_it_is_ignored(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, ignore_eos=True, stop_token_ids=[EOS])
    line.feed([EOS], reason="stop", stop=EOS)
    assert line.one().stop_reason == EOS


@pytest.mark.parametrize("reason", ["length", "abort", "time_limit"])
def test_other_ends(tokenizer: Tokenizer, reason: str) -> None:
    line = Line(tokenizer)
    line.feed("a", reason=reason)
    told = line.one()
    assert (told.text, told.finish_reason, told.stop_reason) == ("a", reason, None)


@pytest.mark.parametrize("fields", [{"with_text": False}, {"detokenize": False}])
def test_without_text(tokenizer: Tokenizer, fields: dict[str, Any]) -> None:
    line = Line(tokenizer, **fields)
    line.feed("ab", reason="length")
    told = line.one()
    assert (told.text, told.token_ids, told.finish_reason) == ("", line.ids("ab"), "length")


def scores(*logprobs: float) -> list[TokenLogprobs]:
    return [TokenLogprobs(logprob, 3, [7, 8], [-0.5, -1.0]) for logprob in logprobs]


@pytest.mark.parametrize("kind", [OutputKind.CUMULATIVE, OutputKind.DELTA])
def test_logprobs_end_with_the_tokens_at_a_stop(tokenizer: Tokenizer, kind: OutputKind) -> None:
    line = Line(tokenizer, logprobs=2, stop=["b"], output_kind=kind)
    line.feed("a", logprobs=scores(-2.0))
    first = line.one()
    assert first.cumulative_logprob == -2.0
    assert first.logprobs == [{7: Logprob(-0.5, 1), 8: Logprob(-1.0, 2), line.ids("a")[0]: Logprob(-2.0, 3)}]
    line.feed("abcd", logprobs=scores(-3.0, -4.0, -50.0, -60.0))
    last = line.one()
    assert last.cumulative_logprob == -9.0
    assert last.logprobs is not None
    own = [found[token].logprob for found, token in zip(last.logprobs, last.token_ids, strict=True)]
    assert own == ([-3.0, -4.0] if kind is OutputKind.DELTA else [-2.0, -3.0, -4.0])


def test_a_token_among_the_most_likely_is_told_once(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, logprobs=2)
    line.feed([8], logprobs=[TokenLogprobs(-1.0, 2, [7, 8], [-0.5, -1.0])])
    assert line.one().logprobs == [{7: Logprob(-0.5, 1), 8: Logprob(-1.0, 2)}]


def test_no_logprobs_unless_asked_for(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer)
    line.feed("a")
    told = line.one()
    assert (told.logprobs, told.cumulative_logprob) == (None, None)


def test_prompt_scores_in_pieces_and_once_more_after_a_preemption(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, prompt_logprobs=1, output_kind=OutputKind.FINAL_ONLY)
    assert line.assembler.take() is None
    one, two = TokenLogprobs(-1.5, 4, [9], [-0.25]), TokenLogprobs(-0.5, 1, [42], [-0.5])
    for start, entries in ((1, [one]), (1, [one, two]), (2, [two])):
        assert line.assembler.feed(PromptScores("k", start, entries)) is None
    line.feed("a", reason="length")
    assert line.told().prompt_logprobs == [
        None,
        {9: Logprob(-0.25, 1), 41: Logprob(-1.5, 4)},
        {42: Logprob(-0.5, 1)},
    ]


def test_a_scored_prompt_without_output(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, prompt_logprobs=0, output_kind=OutputKind.FINAL_ONLY)
    line.assembler.feed(PromptScores("k", 1, scores(-1.0, -2.0)))
    line.feed([], reason="length")
    told = line.told()
    assert told.finished
    assert told.prompt_logprobs is not None
    assert [
        None if found is None else found[token].logprob
        for token, found in zip(PROMPT, told.prompt_logprobs, strict=True)
    ] == [
        None,
        -1.0,
        -2.0,
    ]


def test_times_and_counts(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer, n=2)
    line.assembler.feed(Started("k", 2, 101.0))
    assert line.assembler.take() is None
    line.feed("a", 0, time=102.0)
    early = line.told()
    line.feed("b", 1, time=103.0)
    line.feed([], 0, "abort", time=104.0)
    line.feed("b", 1, "length", time=105.0)
    told = line.told()
    assert (told.num_cached_tokens, told.seed, told.request_id) == (2, 3, "r")
    assert told.metrics == RequestMetrics(100.0, 101.0, 102.0, 105.0)
    assert early.metrics == RequestMetrics(100.0, 101.0, 102.0, 102.0)


def test_an_end_without_tokens_has_no_first_token_time(tokenizer: Tokenizer) -> None:
    line = Line(tokenizer)
    line.feed([], reason="abort", time=102.0)
    assert line.told().metrics == RequestMetrics(100.0, None, None, 102.0)
