"""What waits for a reader: merged in order, and bounded."""

from lepton_engine.backlog import Backlog
from lepton_engine.core.events import NewTokens, PromptScores, Started, TokenLogprobs
from lepton_engine.messages import Admitted

KEY = "k"


def scored(top: int = 0) -> TokenLogprobs:
    return TokenLogprobs(-1.0, 1, list(range(top)), [-1.0] * top)


def test_tokens_of_a_sequence_merge_and_keep_their_first_time() -> None:
    backlog = Backlog()
    for number in range(5):
        backlog.put(NewTokens(KEY, 0, [number], [scored()], time=float(number)))
    backlog.put(NewTokens(KEY, 0, [9], [scored()], "stop", 9, 7.0))
    (event,) = backlog.take()
    assert isinstance(event, NewTokens)
    assert (event.token_ids, event.finish_reason, event.stop_reason, event.time) == ([0, 1, 2, 3, 4, 9], "stop", 9, 0.0)
    assert event.logprobs is not None
    assert len(event.logprobs) == 6
    assert backlog.take() == []


def test_sequences_are_kept_apart_and_other_events_in_order() -> None:
    backlog = Backlog()
    started, scores = Started(KEY, 0, 1.0), PromptScores(KEY, 0, [])
    for event in (Admitted(KEY), started, NewTokens(KEY, 0, [1]), NewTokens(KEY, 1, [2]), scores):
        backlog.put(event)
    backlog.put(NewTokens(KEY, 0, [3]))
    assert backlog.take() == [Admitted(KEY), started, NewTokens(KEY, 0, [1, 3]), NewTokens(KEY, 1, [2]), scores]


def test_what_is_taken_is_not_merged_into() -> None:
    backlog = Backlog()
    backlog.put(NewTokens(KEY, 0, [1]))
    (first,) = backlog.take()
    backlog.put(NewTokens(KEY, 0, [2]))
    assert first == NewTokens(KEY, 0, [1])
    assert backlog.take() == [NewTokens(KEY, 0, [2])]


def test_the_limit_counts_tokens_and_log_probabilities_and_starts_anew_when_all_is_taken() -> None:
    plain, rich = Backlog(10_000), Backlog(10_000)
    fitting = next(n for n in range(10_000) if not plain.put(NewTokens(KEY, 0, [1])))
    with_logprobs = next(n for n in range(10_000) if not rich.put(NewTokens(KEY, 0, [1], [scored(20)])))
    assert with_logprobs < fitting / 10
    plain.take()
    assert plain.put(NewTokens(KEY, 0, [1]))
