"""Whose energy it was."""

import random

import pytest

from lepton_engine.energy.ledger import INTERVAL_SECONDS, SHORTEST_SECONDS, EnergyLedger


class FakeMeter:
    source = "fake"

    def __init__(self) -> None:
        self.total = 0.0
        self.gone = False
        self.readings = 0

    def joules(self) -> float:
        self.readings += 1
        if self.gone:
            raise OSError("gone")
        return self.total


def ledger() -> tuple[FakeMeter, EnergyLedger]:
    meter = FakeMeter()
    return meter, EnergyLedger(meter, 0.0)


def test_energy_is_shared_by_tokens() -> None:
    meter, energy = ledger()
    energy.begin(0.0)
    meter.total = 10.0
    assert energy.charge([("a", 3), ("b", 1), ("a", 1)], INTERVAL_SECONDS)
    assert energy.spent("a", INTERVAL_SECONDS) == 8.0
    assert energy.spent("b", INTERVAL_SECONDS) == 2.0
    assert energy.total == energy.attributed == 10.0


def test_idle_energy_is_nobodys() -> None:
    meter, energy = ledger()
    meter.total = 100.0
    energy.begin(60.0)
    meter.total = 101.0
    energy.charge([("a", 1)], 60.0 + INTERVAL_SECONDS)
    assert energy.spent("a", 60.0 + INTERVAL_SECONDS) == 1.0
    assert (energy.total, energy.attributed) == (101.0, 1.0)


def test_the_counter_is_read_once_an_interval() -> None:
    meter, energy = ledger()
    before = meter.readings
    for step in range(100):
        energy.begin(step * INTERVAL_SECONDS / 50)
        energy.charge([("a", 1)], step * INTERVAL_SECONDS / 50)
    assert meter.readings - before == 1


def test_a_short_first_request_is_read_for() -> None:
    meter, energy = ledger()
    energy.begin(0.0)
    meter.total = 0.5
    energy.charge([("a", 4)], 0.001)
    assert energy.spent("a", 0.001) == 0.5


def test_who_ends_between_readings_pays_the_price_before_and_the_rest_pay_less() -> None:
    meter, energy = ledger()
    meter.total = 10.0
    energy.charge([("a", 5), ("b", 5)], INTERVAL_SECONDS)
    soon = INTERVAL_SECONDS + SHORTEST_SECONDS / 2
    energy.charge([("a", 1), ("b", 1)], soon)
    assert energy.spent("a", soon) == 6.0  # a token cost 1 J
    energy.drop("a")
    meter.total = 12.5
    energy.charge([("b", 1)], 2 * INTERVAL_SECONDS)
    assert energy.spent("b", 2 * INTERVAL_SECONDS) == 5.0 + 1.5
    assert energy.attributed == 12.5


def test_shares_never_exceed_what_was_counted_and_nothing_is_remembered() -> None:
    source = random.Random(5)
    meter, energy = ledger()
    now, ended = 0.0, 0.0
    live: dict[str, None] = {}
    for number in range(3000):
        now += source.choice([0.001, 0.01, 0.05, 0.5])
        if not live:
            now += 3.0
            meter.total += 1.0
        energy.begin(now)
        live[f"r{number}"] = None
        now += 0.004
        meter.total += source.choice([0.0, 0.0, 0.2, 3.0])
        energy.charge([(key, source.randint(1, 9)) for key in live], now)
        for key in source.sample(list(live), source.randint(0, min(3, len(live)))):
            ended += energy.spent(key, now) or 0.0
            energy.drop(key)
            del live[key]
    assert energy.accounts == len(live)
    assert energy.attributed is not None
    assert ended <= energy.attributed + 1e-6
    # A request that ended early may have been given what is only counted in the next interval.
    assert energy.attributed <= meter.total + 3.0


def test_a_counter_that_goes_away_ends_the_figures() -> None:
    meter, energy = ledger()
    energy.charge([("a", 1)], INTERVAL_SECONDS)
    meter.gone = True
    energy.charge([("a", 1)], 2 * INTERVAL_SECONDS)
    assert energy.total is None
    assert energy.attributed is None
    assert energy.spent("a", 1.0) is None
    energy.begin(9.0)
    energy.charge([("a", 1)], 9.0)
    energy.drop("a")
    assert energy.accounts == 0


def test_a_counter_that_was_set_back_takes_nothing_back() -> None:
    meter, energy = ledger()
    meter.total = 5.0
    energy.charge([("a", 1)], INTERVAL_SECONDS)
    meter.total = 1.0
    energy.charge([("a", 1)], 2 * INTERVAL_SECONDS)
    assert energy.spent("a", 1.0) == pytest.approx(5.0)
