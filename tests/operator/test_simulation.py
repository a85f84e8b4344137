"""The simulation of benchmarks.autoscale_sim, short."""

from pathlib import Path

from benchmarks import autoscale_sim as sim
from benchmarks import autoscale_step as step

DOCUMENT = Path(__file__).parents[2] / "docs" / "autoscaling.md"


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


def test_the_step_that_the_docs_tell() -> None:
    watched, run = step.play()
    told = [line.removeprefix("    ") for line in DOCUMENT.read_text().splitlines()]
    assert step.story(watched, run) in "\n".join(told)
    spec = watched.rule.spec
    ups = [when for when, before, after, why in step.changes(watched.seconds) if after > before and "panic" in why]
    downs = [when for when, before, after, _ in step.changes(watched.seconds) if after < before and when > step.DOWN]
    assert step.UP < ups[0] <= step.UP + 2
    assert downs
    assert min(downs) >= step.DOWN + spec.scale_down_seconds - 10


def test_the_picture_of_the_step(tmp_path: Path) -> None:
    watched, run = step.play()
    step.plot(watched, run, tmp_path / "step.png")
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")
