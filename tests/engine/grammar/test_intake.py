"""Requests whose grammars are compiled: nobody waits for them, and nothing of them stays."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from lepton_engine import LeptonEngine, SamplingParams
from lepton_engine.core.events import Failed, NewTokens
from lepton_engine.core.request import Request
from lepton_engine.errors import QueueFullError
from lepton_engine.grammar import intake as intakes
from lepton_engine.grammar.compiler import GrammarCompiler
from lepton_engine.grammar.intake import GrammarIntake
from lepton_engine.grammar.matcher import Matcher
from lepton_engine.grammar.vocabulary import Vocabulary
from lepton_engine.messages import Abort, Submit
from lepton_engine.step import EngineCore
from lepton_engine.structured_outputs import StructuredOutputs
from tests.engine.conftest import byte_level_tokenizer


class HeldCompiler(GrammarCompiler):
    """Compiles once it is let."""

    def __init__(self) -> None:
        super().__init__(lambda: Vocabulary(byte_level_tokenizer().to_str(), 257, [256]))
        self.go = threading.Event()
        self.begun = threading.Event()

    def compile(self, constraint: StructuredOutputs, tenant: str = "") -> Any:
        self.begun.set()
        self.go.wait()
        return super().compile(constraint, tenant)


@pytest.fixture
def held() -> Iterator[HeldCompiler]:
    compiler = HeldCompiler()
    yield compiler
    compiler.go.set()


def request(key: str, regex: str = "ab", **fields: Any) -> Request:
    params = SamplingParams(structured_outputs=StructuredOutputs(regex=regex))
    return Request(key, [1, 2], params, 0, 0.0, 0, 9, **fields)


def ready(intake: GrammarIntake, now: float = 0.0) -> list[tuple[str, str | None]]:
    """What has become of those that wait no longer; waits for one."""
    while not (found := list(intake.ready(now))):
        threading.Event().wait(0.001)
    return [(request.key, None if error is None else str(error)) for request, _, error in found]


def test_a_request_comes_out_when_its_grammar_is_there(held: HeldCompiler) -> None:
    intake = GrammarIntake(lambda: held)
    first = request("a")
    assert not intake.add(first, "name")
    assert "a" in intake
    held.begun.wait()
    assert list(intake.ready(0.0)) == []
    held.go.set()
    assert ready(intake) == [("a", None)]
    assert isinstance(first.sequences[0].matcher, Matcher)
    assert len(intake) == 0
    second = request("b")
    assert intake.add(second), "it is kept, so nobody waits"
    assert second.sequences[0].matcher is not first.sequences[0].matcher
    plain = Request("c", [1], SamplingParams(), 0, 0.0, 0, 9)
    assert intake.add(plain)
    assert plain.sequences[0].matcher is None


def test_what_ends_while_it_compiles(held: HeldCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = GrammarIntake(lambda: held, max_seconds=5.0)
    for key in ("late", "other", "gone"):
        intake.add(request(key, deadline=10.0 if key == "late" else None, client="x" if key == "other" else "y"))
    while intake._jobs["other"].started is None:
        threading.Event().wait(0.001)
    assert ready(intake, 11.0) == [("late", "the deadline passed while the constraint was being compiled")]
    assert intake.keys_of("y") == ["gone"]
    assert intake.cancel("gone") is not None
    assert intake.cancel("gone") is None
    monkeypatch.setattr(intakes, "MAX_COMPILING", 1)
    with pytest.raises(QueueFullError):
        intake.add(request("more"))
    ((key, error),) = ready(intake, time.monotonic() + 6.0)
    assert (key, error) == ("other", "sampling_params.structured_outputs.regex: takes more than 5 s to compile")


def test_a_model_without_a_tokenizer_refuses_by_name() -> None:
    intake = GrammarIntake.without_tokenizer()
    intake.add(request("a"))
    ((_, error),) = ready(intake)
    assert error is not None
    assert error.startswith("sampling_params.structured_outputs: needs the tokenizer")


@pytest.fixture
def core(engine_over: Callable[..., LeptonEngine], held: HeldCompiler) -> EngineCore:
    """A core whose loop is the test's, over an engine's own parts."""
    engine = engine_over()
    found = next(
        thing for thing in gc.get_objects() if isinstance(thing, EngineCore) and thing.info is engine.model_info
    )
    return EngineCore(found.scheduler, found._runner, found.info, overlap=False, grammars=GrammarIntake(lambda: held))


def submit(key: str, regex: str | None, **fields: Any) -> Submit:
    params = SamplingParams(structured_outputs=None if regex is None else StructuredOutputs(regex=regex))
    base: dict[str, Any] = {"prompt_token_ids": [1, 2], "params": params, "seed": 1, "max_tokens": 3}
    return Submit(key=key, stop_token_ids=[256], bad_word_ids=[], **{**base, **fields})


def replies(core: EngineCore) -> list[Any]:
    return [reply for found in core.take_replies().values() for reply in found]


def until_end(core: EngineCore, key: str) -> list[Any]:
    """Steps until a request has ended; all replies."""
    told: list[Any] = []
    while not any(
        getattr(r, "key", None) == key and (isinstance(r, Failed) or getattr(r, "finish_reason", None)) for r in told
    ):
        core.step()
        told += replies(core)
    return told


def test_others_run_while_one_compiles(core: EngineCore, held: HeldCompiler) -> None:
    core.handle("x", submit("slow", "ab"))
    core.handle("x", submit("slow", "ab"))  # sent again: it is known already
    held.begun.wait()
    core.handle("x", submit("fast", None))
    told = until_end(core, "fast")
    assert not any(getattr(reply, "key", None) == "slow" for reply in told)
    held.go.set()
    told = until_end(core, "slow")
    tokens = [
        token for reply in told if isinstance(reply, NewTokens) and reply.key == "slow" for token in reply.token_ids
    ]
    assert tokens == byte_level_tokenizer().encode("ab").ids


def test_an_abort_and_a_lost_client_while_it_compiles(core: EngineCore, held: HeldCompiler) -> None:
    core.handle("x", submit("one", "ab"))
    core.handle("y", submit("two", "ab"))
    core.handle("x", Abort(key="one"))
    core.drop_client("y")
    assert len(core._grammars) == 0
    held.go.set()
    core.handle("x", submit("three", "ab"))
    told = until_end(core, "three")
    assert {reply.key for reply in told} == {"three"}


def test_nothing_of_a_request_stays(engine_over: Callable[..., LeptonEngine]) -> None:
    engine = engine_over()

    def matchers() -> list[Matcher]:
        return [thing for thing in gc.get_objects() if type(thing) is Matcher]

    gc.collect()  # Of the tests before.
    others = [weakref.ref(matcher) for matcher in matchers()]
    params = SamplingParams(n=2, max_tokens=30, structured_outputs=StructuredOutputs(regex="[ab]{12}"))
    outputs = engine.stream("x", params)
    assert isinstance(outputs, Generator)
    next(outputs)
    alive = [own for matcher in matchers() if (own := weakref.ref(matcher)) not in others]
    assert len(alive) >= 2
    outputs.close()
    engine.generate("x", params)
    engine.generate("x", SamplingParams(max_tokens=2))  # a step later the last plan is gone, too
    gc.collect()
    assert [reference for reference in alive if reference() is not None] == []
    assert all(weakref.ref(matcher) in others for matcher in matchers())
