"""Steps that crash: the request at fault is found and fails, the others get the tokens of a run alone."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lepton_engine.core.events import Failed, NewTokens
from lepton_engine.core.plan import StepPlan
from lepton_engine.errors import EngineDeadError
from lepton_engine.messages import Abort, ModelInfo, Submit
from lepton_engine.sampling_params import SamplingParams
from lepton_engine.step import EngineCore
from tests.engine.core.device import Device, Fault, LaunchedStep, StepCrashed
from tests.engine.core.loop import Loop

INFO = msgspec.convert(
    {
        **dict.fromkeys(ModelInfo.__struct_fields__, 0),
        "family": "",
        "dtype": "",
        "device": "",
        "quantization": "",
        "max_queue_time": None,
        "eos_token_ids": [],
        "default_sampling": {},
    },
    ModelInfo,
)
Poison = Callable[[StepPlan], str]


class Runner:
    """The device; `poison` says whether and where a step crashes."""

    def __init__(self, device: Device, poison: Poison) -> None:
        self.device, self.poison = device, poison
        self.crashed: list[set[str]] = []
        self.plans: list[StepPlan] = []

    def launch(self, plan: StepPlan) -> LaunchedStep:
        crash = self.poison(plan)
        self.plans.append(plan)
        if crash:
            self.crashed.append({entry.sequence.request.key for entry in plan.scheduled})
        return self.device.launch(plan, Fault(crash=crash))


class Recorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[list[tuple[bytes, int]]] = []

    def record(self, requests: list[tuple[bytes, int]]) -> None:
        self.steps.append(requests)

    def again(self) -> None:
        self.steps.append(self.steps[-1])

    def clear(self) -> None:
        self.steps.append([])


class Engine:
    """A core over the device that checks every read."""

    def __init__(self, poison: Poison, recorder: Recorder | None = None, **options: Any) -> None:
        self.loop = Loop(**options)
        self.runner = Runner(self.loop.device, poison)
        self.core = EngineCore(self.loop.scheduler, self.runner, INFO, overlap=self.loop.overlap, recorder=recorder)
        self.tokens: dict[tuple[str, int], list[int]] = {}
        self.ends: dict[str, str] = {}

    def submit(self, key: str, prompt: list[int], n: int = 1, max_tokens: int = 6, request_id: str = "") -> None:
        params = SamplingParams(n=n, prompt_logprobs=0 if max_tokens == 0 else None)
        message = Submit(
            key=key,
            request_id=request_id,
            prompt_token_ids=prompt,
            params=params,
            seed=len(prompt),
            max_tokens=max_tokens,
            stop_token_ids=[],
            bad_word_ids=[],
        )
        self.core.handle("me", message)
        if key in self.loop.scheduler:
            self.loop.requests[key] = self.loop.scheduler.requests[key]

    def step(self) -> None:
        self.core.step()
        for replies in self.core.take_replies().values():
            for event in replies:
                if isinstance(event, NewTokens):
                    self.tokens.setdefault((event.key, event.index), []).extend(event.token_ids)
                    if event.finish_reason is not None:
                        self.ends[event.key] = event.finish_reason
                elif isinstance(event, Failed):
                    self.ends[event.key] = event.kind
        assert self.core.integrity() == []
        # What a crashed step has sampled never was: the device's books go by what the host knows.
        device = self.loop.device
        if self.core._in_flight is None:
            for sequence in self.loop.live():
                device.sampled[sequence] = sequence.token_ids[sequence.num_prompt :]
                device.prefixes.pop(sequence, None)
            device.doomed.clear()
            device.crash_unknown = False

    def finish(self, limit: int = 2000) -> None:
        for _ in range(limit):
            if not self.loop.scheduler.has_work and self.core._in_flight is None:
                break
            self.step()
        assert not self.loop.scheduler.has_work
        self.loop.assert_drained()

    def assert_right(self, key: str) -> None:
        request = self.loop.requests[key]
        for index in range(request.params.n):
            assert self.tokens.get((key, index), []) == self.loop.alone(request, index), (key, index)


def poisoned(*keys: str, kind: str = "launch", after: int = 0) -> Poison:
    """Steps crash that have one of these requests in it, once it has generated so many tokens."""

    def poison(plan: StepPlan) -> str:
        hit = any(
            e.sequence.request.key in keys and e.start + e.num_tokens >= e.sequence.num_prompt + after
            for e in plan.scheduled
        )
        return kind if hit else ""

    return poison


@pytest.mark.parametrize("kind", ["launch", "result"])
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(("overlap", "count"), [(False, 8), (True, 8), (False, 1), (True, 2)])
def test_the_poisoned_request_fails_and_the_others_get_their_tokens(
    kind: str, after: int, overlap: bool, count: int
) -> None:
    engine = Engine(poisoned("r0", kind=kind, after=after), overlap=overlap, budget=64, max_num_seqs=16)
    for i in range(count):
        engine.submit(f"r{i}", [1, 2, 3, 0, 2, 1, 0, i % 4, 1], n=1 + (i == 3))
    engine.finish()
    assert engine.ends == {"r0": "RequestFailedError", **{f"r{i}": "length" for i in range(1, count)}}
    for i in range(1, count):
        engine.assert_right(f"r{i}")
    assert len(engine.runner.crashed) <= 1 + count.bit_length(), "halving takes a logarithm of steps"


def test_two_poisoned_requests_are_both_found() -> None:
    engine = Engine(poisoned("r2", "r5", after=2), max_num_seqs=16)
    for i in range(10):
        engine.submit(f"r{i}", [i % 4] * (3 + i))
    engine.finish()
    failed = {key for key, end in engine.ends.items() if end == "RequestFailedError"}
    assert failed == {"r2", "r5"}
    for i in {*range(10)} - {2, 5}:
        engine.assert_right(f"r{i}")


@pytest.mark.parametrize("overlap", [False, True])
def test_a_crash_that_does_not_come_again_fails_nobody(overlap: bool) -> None:
    crashes = iter(["", "", "result"])
    engine = Engine(lambda plan: next(crashes, ""), overlap=overlap)
    for i in range(4):
        engine.submit(f"r{i}", [3, 1, 2, 0, i])
    engine.finish()
    assert set(engine.ends.values()) == {"length"}
    for i in range(4):
        engine.assert_right(f"r{i}")


def test_others_get_steps_between_those_of_the_suspects_and_newcomers_too() -> None:
    engine = Engine(poisoned("r0", after=1), budget=64, max_num_seqs=4)
    for i in range(3):
        engine.submit(f"r{i}", [1, 2, 3, i])
    engine.step()
    engine.step()
    assert engine.runner.crashed == [{"r0", "r1", "r2"}]
    engine.submit("r3", [2, 2, 1])
    engine.step()
    engine.step()
    assert any({e.sequence.request.key for e in plan.scheduled} == {"r3"} for plan in engine.runner.plans[-2:])
    engine.finish()
    assert engine.ends == {"r0": "RequestFailedError", "r1": "length", "r2": "length", "r3": "length"}


def test_suspects_can_be_aborted() -> None:
    engine = Engine(poisoned("r0", after=1))
    for i in range(4):
        engine.submit(f"r{i}", [1, 2, 3, i])
    engine.step()
    engine.step()
    for i in range(4):
        engine.core.handle("me", Abort(key=f"r{i}"))
    engine.step()
    engine.finish()
    assert set(engine.ends.values()) == {"abort"}


@pytest.mark.parametrize("seed", range(20))
def test_random_crashes_leave_nothing_and_change_no_token(seed: int) -> None:
    dice = random.Random(seed)
    doomed = {f"r{i}" for i in range(40) if dice.random() < 0.1}
    single = poisoned(*doomed, kind=dice.choice(["launch", "result"]), after=dice.randrange(3))
    flaky = dice.choice([0.0, 0.05])

    def poison(plan: StepPlan) -> str:
        suspects = [entry.sequence.request.isolated for entry in plan.scheduled]
        return single(plan) or ("launch" if not any(suspects) and dice.random() < flaky else "")

    engine = Engine(
        poison,
        overlap=dice.random() < 0.5,
        num_blocks=dice.choice([12, 30, 64]),
        windows=dice.choice([(None,), (None, 6)]),
        max_num_seqs=dice.choice([2, 8]),
        budget=dice.choice([16, 40]),
        chunk=dice.choice([None, 8]),
    )
    submitted = 0
    while submitted < 40:
        if dice.random() < 0.4:
            shared = [submitted // 6 % 4] * dice.choice([0, 8])
            prompt = shared + [dice.randrange(4) for _ in range(dice.randint(1, 12))]
            engine.submit(f"r{submitted}", prompt, n=dice.choice([1, 1, 2]), max_tokens=dice.choice([1, 4, 9]))
            submitted += 1
        engine.step()
    engine.finish()
    for key, end in engine.ends.items():
        assert (end == "RequestFailedError") <= (key in doomed)
        if end == "length":
            engine.assert_right(key)


def test_a_lost_device_ends_the_engine() -> None:
    class AcceleratorError(Exception):
        """As torch names it."""

    def lost(plan: StepPlan) -> str:
        raise AcceleratorError("an illegal memory access was encountered")

    engine = Engine(lost)
    engine.submit("r0", [1])
    with pytest.raises(EngineDeadError, match="the device is lost"):
        engine.step()


def test_the_recorder_has_who_is_in_the_step_and_its_suspects_run_alone_the_next_time() -> None:
    recorder = Recorder()
    engine = Engine(lambda plan: "", recorder)
    engine.submit("r0", [1, 2, 3])
    engine.submit("r1", [2, 2, 3])
    for _ in range(3):
        engine.step()
    (first, second) = [fingerprint for fingerprint, _ in recorder.steps[0]]
    assert first != second
    assert [count for _, count in recorder.steps[0]] == [0, 0]
    after = Engine(lambda plan: "", Recorder())
    after.core.quarantine([(first, 3)], [second])
    after.submit("r0", [1, 2, 3])
    after.submit("r1", [2, 2, 3])
    after.submit("r2", [2, 2, 2])
    after.finish()
    assert after.ends == {"r0": "length", "r1": "RequestFailedError", "r2": "length"}
    alone = [plan for plan in after.runner.plans if len(plan.scheduled) == 1]
    with_r0 = [p for p in after.runner.plans if any(e.sequence.request.key == "r0" for e in p.scheduled)]
    assert all(plan in alone for plan in with_r0[:4])
    after.assert_right("r0")


def test_a_name_is_in_use_once_at_a_time_within_a_tenant() -> None:
    engine = Engine(lambda plan: "")
    engine.submit("r0", [1, 2], request_id="mine")
    engine.submit("r1", [1, 2], request_id="mine")
    engine.step()
    assert engine.ends == {"r1": "RequestIdInUseError"}
    engine.finish()
    engine.submit("r2", [1, 2], request_id="mine")
    engine.finish()
    assert engine.ends["r2"] == "length"


def test_the_device_raises_as_its_fault_says() -> None:
    """The control: without recovery a crash would end the loop."""
    engine = Engine(poisoned("r0"))
    engine.submit("r0", [1])
    with pytest.raises(StepCrashed):
        engine.runner.launch(engine.loop.scheduler.schedule(1.0))
