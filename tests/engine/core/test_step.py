"""The engine's own loop over the device that checks every read."""

import pytest

from lepton_engine.core.events import Failed, NewTokens
from lepton_engine.core.plan import StepPlan
from lepton_engine.messages import Abort, Admitted, Answer, ModelInfo, Query, Submit
from lepton_engine.sampling_params import OutputKind, SamplingParams
from lepton_engine.step import EngineCore
from tests.engine.core.device import Fault, LaunchedStep
from tests.engine.core.loop import Loop

INFO = ModelInfo(
    family="fake",
    dtype="float32",
    device="cpu",
    max_model_len=64,
    vocab_size=4,
    num_parameters=0,
    weight_bytes=0,
    block_size=4,
    num_kv_blocks=16,
    kv_cache_bytes=0,
    max_num_seqs=4,
    max_num_batched_tokens=16,
    eos_token_ids=[],
    default_sampling={},
    load_seconds=0.0,
)
PROMPT = [1, 2, 3, 0, 2, 1, 0, 3, 1]


class Runner:
    """The device."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def launch(self, plan: StepPlan) -> LaunchedStep:
        self.loop.check(plan)
        return self.loop.device.launch(plan, Fault())


class Engine:
    """A core and what it has told."""

    def __init__(self, overlap: bool) -> None:
        self.loop = Loop(overlap=overlap)
        self.core = EngineCore(self.loop.scheduler, Runner(self.loop), INFO, overlap=overlap)
        self.told: list[object] = []

    def submit(
        self,
        key: str,
        prompt: list[int],
        client: str = "me",
        kind: OutputKind = OutputKind.CUMULATIVE,
        **kwargs: int,
    ) -> None:
        self.core.handle(
            client,
            Submit(
                key=key,
                prompt_token_ids=prompt,
                params=SamplingParams(n=kwargs.get("n", 1), output_kind=kind),
                seed=1,
                max_tokens=kwargs.get("max_tokens", 4),
                stop_token_ids=[],
                bad_word_ids=[],
            ),
        )

    def step(self) -> None:
        self.core.step()
        for replies in self.core.take_replies().values():
            self.told += replies
        assert self.core.integrity() == []

    def finish(self) -> None:
        for _ in range(100):
            self.step()
        assert not self.loop.scheduler.has_work
        self.loop.assert_drained()

    def ends(self) -> dict[str, str]:
        ends = {}
        for event in self.told:
            if isinstance(event, Failed):
                ends[event.key] = event.kind
            elif isinstance(event, NewTokens) and event.finish_reason is not None:
                ends[event.key] = event.finish_reason
        return ends


@pytest.mark.parametrize("overlap", [False, True])
def test_requests_run_to_their_end(overlap: bool) -> None:
    engine = Engine(overlap)
    for i in range(3):
        engine.submit(str(i), [*PROMPT, i], n=1 + i)
        engine.submit(str(i), [*PROMPT, i], n=1 + i)  # A repeated message does nothing.
    engine.finish()
    assert engine.told.count(Admitted("0")) == 1
    assert engine.ends() == {"0": "length", "1": "length", "2": "length"}
    tokens = [e for e in engine.told if isinstance(e, NewTokens) and e.token_ids]
    assert len(tokens) == 4 * (1 + 2 + 3)


@pytest.mark.parametrize("overlap", [False, True])
def test_requests_of_a_lost_client_end_and_others_go_on(overlap: bool) -> None:
    engine = Engine(overlap)
    engine.submit("a", PROMPT, client="gone", max_tokens=30)
    engine.submit("b", PROMPT, max_tokens=9)
    engine.step()
    engine.step()
    engine.core.drop_client("gone")
    engine.core.handle("me", Query(number=7, integrity=True))
    engine.step()
    answer = next(event for event in engine.told if isinstance(event, Answer))
    assert (answer.number, answer.problems, answer.stats.num_running, answer.stats.num_aborted) == (7, [], 1, 1)
    engine.finish()
    assert engine.ends()["b"] == "length"


@pytest.mark.parametrize("overlap", [False, True])
def test_a_whole_answer_has_the_tokens_of_a_stream_in_fewer_events(overlap: bool) -> None:
    told: dict[OutputKind, list[NewTokens]] = {}
    for kind in (OutputKind.DELTA, OutputKind.FINAL_ONLY):
        engine = Engine(overlap)
        engine.submit("a", PROMPT, kind=kind, n=2, max_tokens=12)
        engine.submit("refused", [], kind=kind)
        engine.submit("aborted", [*PROMPT, 1], kind=kind, max_tokens=30)
        engine.submit("left", [*PROMPT, 2], client="gone", kind=kind, max_tokens=30)
        for _ in range(5):
            engine.step()
        engine.core.handle("me", Abort(key="aborted"))
        engine.core.drop_client("gone")
        engine.finish()
        assert engine.ends() == {"a": "length", "refused": "InvalidRequestError", "aborted": "abort", "left": "abort"}
        assert len(engine.core._bunches) == 0
        told[kind] = [event for event in engine.told if isinstance(event, NewTokens)]
    stream, whole = told[OutputKind.DELTA], told[OutputKind.FINAL_ONLY]
    for key, index in {(event.key, event.index) for event in stream}:
        tokens = [
            [token for event in events if (event.key, event.index) == (key, index) for token in event.token_ids]
            for events in (stream, whole)
        ]
        assert tokens[0] == tokens[1]
    assert len([event for event in whole if event.key == "a"]) == 2 * 2  # of each sequence the first, and the rest
    assert len([event for event in stream if event.key == "a"]) == 2 * 12


def test_refused_and_unknown_requests() -> None:
    engine = Engine(False)
    engine.submit("a", [])
    engine.core.handle("me", Abort(key="nobody"))
    engine.finish()
    assert engine.ends() == {"a": "InvalidRequestError"}
