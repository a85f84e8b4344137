"""One tenant floods, another one asks now and then: in simulated time, where a step costs what its tokens cost.

The cost is that of a small model on a processor: a fixed part, a part for each token, a part for each sequence.
"""

import random
from dataclasses import dataclass, field

import pytest

from lepton_engine.config import SchedulerSettings
from lepton_engine.core.events import NewTokens
from lepton_engine.core.kv_cache import KVCacheManager
from lepton_engine.core.kv_layout import KVCacheLayout, KVGroup
from lepton_engine.core.plan import StepPlan, StepResult
from lepton_engine.core.request import Request
from lepton_engine.core.scheduler import DECODE_WEIGHT, Scheduler
from lepton_engine.sampling_params import SamplingParams

STEP_SECONDS, TOKEN_SECONDS, SEQUENCE_SECONDS = 1e-3, 30e-6, 100e-6
PARAMS = SamplingParams()


def cost(plan: StepPlan) -> float:
    """Seconds that a step takes."""
    return STEP_SECONDS + TOKEN_SECONDS * plan.num_tokens + SEQUENCE_SECONDS * len(plan.scheduled)


@dataclass
class Simulation:
    """A scheduler in simulated time.

    Attributes:
        served: prompt tokens and, weighted, generated ones that were computed for each tenant.
        taken: times to first token of each tenant. begun: the requests that have one.
    """

    slots: int = 16
    budget: int = 512
    blocks: int = 4096
    now: float = 0.0
    number: int = 0
    served: dict[str, float] = field(default_factory=dict)
    taken: dict[str, list[float]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        layout = KVCacheLayout(16, (KVGroup(None, (0,), 1),), (self.blocks,), 4096)
        settings = SchedulerSettings(max_num_seqs=self.slots, max_num_batched_tokens=self.budget)
        self.scheduler = Scheduler(settings, KVCacheManager(layout, chunk=self.budget))
        self.requests: dict[str, Request] = {}

    def submit(self, tenant: str, prompt: int, output: int, priority: int = 0, at: float | None = None) -> None:
        """A request comes; its prompt shares nothing."""
        self.number += 1
        key = f"{tenant}/{self.number}"
        ids = [self.number, *range(1, prompt)]
        arrival = self.now if at is None else at
        request = Request(key, ids, PARAMS, self.number, arrival, 0, output, priority=priority, tenant=tenant)
        self.scheduler.submit(request)
        self.requests[key] = request

    def live(self, tenant: str) -> int:
        """Requests of a tenant that have not ended."""
        return self.scheduler.admission.tenants.account(tenant).in_flight

    def step(self) -> StepPlan:
        """One step; time passes."""
        plan = self.scheduler.schedule(self.now)
        self.now += cost(plan) if plan.scheduled else STEP_SECONDS
        for entry in plan.scheduled:
            request = entry.sequence.request
            generated = entry.start >= len(request.prompt)
            tokens = entry.num_tokens * (DECODE_WEIGHT if generated else 1)
            self.served[request.tenant] = self.served.get(request.tenant, 0) + tokens
        count = len(plan.samples)
        self.scheduler.settle(plan, StepResult([7] * count, [False] * count, [None] * count))
        for _, event in self.scheduler.take_events():
            if isinstance(event, NewTokens):
                request = self.requests[event.key]
                if event.key not in self.begun:
                    self.begun.add(event.key)
                    self.taken.setdefault(request.tenant, []).append(self.now - request.arrival_time)
        return plan


FLOODS = {"short requests": (64, 32), "long prompts": (900, 8), "long outputs": (64, 900)}


def quiet_times(flood: tuple[int, int] | None, name: str = "flood", seconds: float = 15.0) -> list[float]:
    """Times to first token of a tenant that sends 256 + 16 tokens eight times a second, sorted."""
    simulation = Simulation()
    source = random.Random(1)
    due = 0.0
    sent = 0
    while simulation.now < seconds:
        while due <= simulation.now:
            simulation.submit("quiet", 256, 16, at=due)
            due += source.expovariate(8.0)
            sent += 1
        while flood is not None and simulation.live(name) < 64:
            simulation.submit(name, *flood)
        simulation.step()
    assert simulation.scheduler.problems() == []
    assert sent - 5 <= len(simulation.taken["quiet"]) or name == "quiet"
    return sorted(simulation.taken["quiet"])


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return quiet_times(None)


def at(times: list[float], quantile: float) -> float:
    return times[int(quantile * len(times))]


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_at_most_doubles_the_time_to_first_token_of_others(kind: str, alone: list[float]) -> None:
    beside = quiet_times(FLOODS[kind])
    assert at(beside, 0.99) <= 2 * at(alone, 0.99)
    assert at(beside, 0.5) <= 2.1 * at(alone, 0.5)


def test_without_a_name_of_its_own_the_flood_is_felt(alone: list[float]) -> None:
    """What the other tests show is due to the tenants, not to the load being light."""
    assert at(quiet_times(FLOODS["long outputs"], "quiet", 3.0), 0.99) > 10 * at(alone, 0.99)


def test_a_flood_that_holds_every_slot_gives_way_up_to_an_equal_share_and_no_further() -> None:
    simulation = Simulation(slots=8)
    for _ in range(20):
        simulation.submit("flood", 32, 2000)
    simulation.step()
    for _ in range(10):
        simulation.submit("other", 32, 2000)
    for _ in range(5):
        simulation.step()
    holders = [sequence.request.tenant for sequence in simulation.scheduler.running]
    assert sorted(holders) == ["flood"] * 4 + ["other"] * 4
    preemptions = simulation.scheduler.preemptions
    assert preemptions == 4
    for _ in range(50):
        simulation.step()
    assert simulation.scheduler.preemptions == preemptions, "driven to and fro"


def test_a_flood_that_holds_the_kv_cache_gives_way_too() -> None:
    simulation = Simulation(slots=64, blocks=1 + 8 * 20)  # Eight sequences of 320 tokens.
    for _ in range(20):
        simulation.submit("flood", 300, 10)
    for _ in range(8):
        simulation.step()
    simulation.submit("other", 300, 10)
    simulation.step()
    simulation.step()
    assert "other" in [sequence.request.tenant for sequence in simulation.scheduler.running]
    while simulation.scheduler.has_work:
        simulation.step()
    assert simulation.scheduler.problems() == []


def test_a_single_tenant_has_all_of_a_step() -> None:
    simulation = Simulation(budget=512)
    for _ in range(8):
        simulation.submit("only", 900, 4)
    assert [simulation.step().num_tokens for _ in range(4)] == [512] * 4


def test_a_prompt_of_another_tenant_goes_before_what_is_left_of_a_long_one() -> None:
    simulation = Simulation(budget=512)
    simulation.submit("flood", 4000, 4)
    simulation.step()
    simulation.submit("other", 256, 4)
    plan = simulation.step()
    assert [(e.sequence.request.tenant, e.num_tokens) for e in plan.scheduled] == [("other", 256), ("flood", 128)]
    assert simulation.step().num_tokens == 1 + 256  # It leaves half of a step to who may come.


@pytest.mark.parametrize("seed", range(6))
def test_tenants_that_always_want_more_are_served_alike(seed: int) -> None:
    """The bound of the paper: no two differ by more than twice what may be under way, however their requests look."""
    draw = random.Random(seed)
    simulation = Simulation(slots=draw.choice([2, 4, 16]), budget=draw.choice([16, 64, 512]))
    sizes = {f"t{i}": (draw.randint(1, 400), draw.randint(1, 60)) for i in range(draw.randint(2, 5))}
    largest = max(prompt + DECODE_WEIGHT * output for prompt, output in sizes.values())
    bound = 2 * (simulation.slots * largest + simulation.budget)
    for steps in range(1500):
        for tenant, size in sizes.items():
            while simulation.live(tenant) < 2 * simulation.slots:
                simulation.submit(tenant, *size)
        simulation.step()
        if steps > 0:
            served = [simulation.served.get(tenant, 0) for tenant in sizes]
            assert max(served) - min(served) <= bound
    assert min(simulation.served.get(tenant, 0) for tenant in sizes) > 0
    assert simulation.scheduler.problems() == []


@pytest.mark.parametrize("seed", range(6))
def test_nobody_waits_for_ever(seed: int) -> None:
    """Requests of many tenants that come and go, each begins to run within a bound, whatever the others send."""
    draw = random.Random(seed)
    simulation = Simulation(slots=4, budget=64)
    waits: dict[str, int] = {}
    longest = 0
    for _ in range(3000):
        while simulation.live("flood") < 30:
            simulation.submit("flood", draw.randint(1, 200), draw.randint(1, 40))
        if draw.random() < 0.02:
            tenant = draw.choice(["a", "b", "c"])
            if not simulation.live(tenant):
                simulation.submit(tenant, draw.randint(1, 60), draw.randint(1, 5))
        simulation.step()
        for key, request in simulation.scheduler.requests.items():
            if request.first_scheduled_time is None and request.tenant != "flood":
                waits[key] = waits.get(key, 0) + 1
                longest = max(longest, waits[key])
    assert longest <= 45  # What the longest output that runs still needs, and a few steps.
