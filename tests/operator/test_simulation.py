"""The simulation of benchmarks.autoscale_sim, short."""

from benchmarks import autoscale_sim as sim


def test_the_front_of_late_requests_and_cost_is_not_dominated() -> None:
    points = sim.sweep(2, targets=(5, 7, 8))
    assert not sim.dominated(points)


def test_domination() -> None:
    own, better = sim.Point("lepton", 1, 10, 10), sim.Point("knative", 1, 10, 9)
    assert sim.dominated([own, better]) == [(own, better)]
    assert not sim.dominated([own, sim.Point("knative", 1, 11, 9)])
    assert not own.dominates(own)


def test_a_steady_load_moves_replicas_seldom() -> None:
    for name in ("Poisson, 20", "on/off 0/100, 60 s"):
        assert max(sim.reversals(sim.FLAPPING[name], sim.Lepton, 6, 2, hours=2)) <= 1


def test_a_run_is_counted_as_it_is() -> None:
    """No more room than load: all requests but those of the start are served, and cost is pods times time."""

    class Fixed:
        def decide(self, now: int, view: sim.View) -> int:
            return 4

    run = sim.simulate(lambda now: 10, 3600, Fixed(), 1)
    assert run.late == 0
    assert abs(run.gpu_hours - 4) < 0.1
    assert abs(run.served - 3600) < 300
    assert run.reversals(0) == 0
    starved = sim.simulate(lambda now: 100, 600, Fixed(), 1)
    assert starved.late > 1000
