from lepton_engine.core.timers import Timers


def test_due_keys_come_once_and_in_order() -> None:
    timers = Timers(lambda key: True)
    for when, key in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.5, "a"), (9.0, "d")):
        timers.add(when, key)
    assert timers.next_due() == 1.0
    assert timers.pop_due(0.5) == []
    assert timers.pop_due(3.0) == ["a", "b", "c"]
    assert timers.pop_due(3.0) == []
    assert timers.next_due() == 9.0
    assert timers.pop_due(10.0) == ["d"]
    assert timers.next_due() is None


def test_keys_that_have_ended_are_not_told() -> None:
    live = {"a", "b"}
    timers = Timers(live.__contains__)
    timers.add(1.0, "a")
    timers.add(1.0, "b")
    live.remove("a")
    assert timers.pop_due(2.0) == ["b"]


def test_ended_keys_do_not_pile_up() -> None:
    live: set[str] = set()
    timers = Timers(live.__contains__)
    for i in range(10_000):
        live.add(str(i))
        timers.add(1e9 + i, str(i))
        if i >= 10:
            live.remove(str(i - 10))
        assert len(timers._heap) <= 100
