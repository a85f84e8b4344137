"""The operator on a real API server with kwok nodes: scale, rest, reaction, kills, leadership, upgrade.

    python -m benchmarks.operator               all of it, about half an hour
    python -m benchmarks.operator --only scale  one part
    python -m benchmarks.operator --quick       50 models, 5 kills, 30 s of rest

Every figure is taken from the API server's audit log or from /proc; a figure that misses its target says so. Needs what
tests/cluster needs: the first run builds Kubernetes, which takes minutes.
"""

import math
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from benchmarks.common import LEPTON, Row, parser, report, versions
from lepton_operator.settings import REQUEST_TIMEOUT, LeaseSettings
from tests.cluster import build, life
from tests.cluster.api import Api, Object, eventually
from tests.cluster.control_plane import CONTROLLERS, SERVERS, ControlPlane
from tests.cluster.kwok import add_node
from tests.cluster.leadership import Terms, trespasses
from tests.cluster.models import collected, differences, is_ready, model, normal
from tests.cluster.operators import LEASE, NAMESPACE, NO_LEASE, Operator, install, quiet
from tests.cluster.pods import Figures, Pods
from tests.cluster.relay import Relay

State = dict[str, Object]
FLEET = "fleet"
TERMS = Terms(LeaseSettings.duration, REQUEST_TIMEOUT)
LOAD = 8  # Streams of an autoscaled model's pod at first: half of its target.
AUTOSCALING: Object = {"minReplicas": 1, "maxReplicas": 20, "targetStreams": 16}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    models: int
    autoscaled: int
    rest_seconds: float
    patches: int
    lives: int
    kills: int
    frozen_seconds: float


FULL = Size(models=1000, autoscaled=100, rest_seconds=300, patches=500, lives=10, kills=10, frozen_seconds=60)
QUICK = Size(models=50, autoscaled=10, rest_seconds=30, patches=50, lives=1, kills=5, frozen_seconds=20)


@dataclass
class Bench:
    """A control plane, its administrator, and the rows so far."""

    plane: ControlPlane
    size: Size
    rows: list[Row] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.plane.api

    def row(self, work: str, value: float, unit: str, limit: float | None = None, peak: float | None = None) -> None:
        """Take in a figure; limit: the most that it may be."""
        self.rows.append(Row(work, LEPTON, "-", value, unit, peak_rss_mb=peak, versions=versions("lepton-operator")))
        text = f"{work}: {value:.4g} {unit}"
        if limit is not None and value > limit:
            self.missed.append(f"{text}, the target is {limit:g}")
        print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the parts that were asked for; 1 when a target was missed."""
    options = parser(__doc__ or "")
    options.add_argument("--only", choices=list(PARTS), action="append", help="this part; may be repeated")
    args = options.parse_args()
    wanted = args.only or list(PARTS)
    size = QUICK if args.quick else FULL
    plane = ControlPlane(build.programs(*SERVERS, *CONTROLLERS))
    bench = Bench(plane, size)
    try:
        install(bench.api)
        for number in range(math.ceil(size.models / 8) + 5):
            add_node(bench.api, f"gpu-{number}")
        for name in wanted:
            PARTS[name](bench)
    finally:
        plane.close()
    notes = [f"Kubernetes {build.kubernetes_version()}, kwok nodes; times from the audit log"]
    notes += [f"MISSED: {line}" for line in bench.missed]
    report("operator", bench.rows, args.json, notes)
    return 1 if bench.missed else 0


# --- scale, rest, reaction, upgrade: one fleet of models


def fleet(bench: Bench) -> None:
    """1,000 models at once; rest; patches; a step of load; an upgrade."""
    size, plane, api = bench.size, bench.plane, bench.api
    operator = Operator(plane, "fleet", args=())
    api.apply({"kind": "Namespace", "metadata": {"name": FLEET}})
    pods = Pods(plane)
    try:
        begin = time.monotonic()
        _create(api, size)
        took = _all_ready(api, pods, size.models, begin)
        count = len(api.list("Pod", FLEET))
        assert count == size.models, f"{count} pods for {size.models} models"
        peak = operator.peak_mb()
        bench.row(f"{size.models} models created at once, all Ready", took, "s", 120)
        bench.row("operator's peak memory", peak, "MiB", 250, peak)
        quiet(plane, [operator.user], still=5, seconds=120)
        _rest(bench, operator)
        _patches(bench, operator)
        _step(bench, operator, pods)
        _upgrade(bench, operator)
        bench.row("operator's peak memory at the end", operator.peak_mb(), "MiB", 250, operator.peak_mb())
    finally:
        operator.close()
        pods.close()
        api.delete("Namespace", FLEET)


def _name(number: int) -> str:
    return f"m{number:04}"


def _create(api: Api, size: Size) -> None:
    def body(number: int) -> Object:
        scaling = {"autoscaling": AUTOSCALING} if number < size.autoscaled else {}
        return model(_name(number), gpu={}, **scaling)

    def create(number: int) -> Callable[[], object]:
        return lambda: api.create(body(number), FLEET)

    life.in_parallel([create(number) for number in range(size.models)])


def _tell(api: Api, pods: Pods, figures: Figures, size: int) -> None:
    """Let the pods of the autoscaled models answer so."""
    told = {_name(number) for number in range(size)}
    found = [pod for pod in api.list("Pod", FLEET) if pod["metadata"]["labels"]["lepton.dev/model"] in told]
    pods.set({pod["status"]["podIP"]: figures for pod in found if "podIP" in pod["status"]})


def _all_ready(api: Api, pods: Pods, count: int, begin: float) -> float:
    """Seconds from then until all are Ready at their generation."""

    def ready() -> bool:
        found = api.list("LeptonModel", FLEET)
        return len(found) == count and all(is_ready(item) for item in found)

    eventually(ready, "all models ready", 600, every=0.5)
    took = time.monotonic() - begin
    _tell(api, pods, Figures(running=LOAD), count)
    return took


def _rest(bench: Bench, operator: Operator) -> None:
    mark, cpu = bench.plane.audit.mark(), operator.cpu_seconds()
    time.sleep(bench.size.rest_seconds)
    writes = [w for w in bench.plane.audit.since(mark) if w.user == operator.user]
    others = [w.what for w in writes if w.resource != "leases"]
    print(*others[:10], sep="\n", file=sys.stderr)
    bench.row(f"writes but the Lease in {bench.size.rest_seconds:g} s of rest", len(others), "writes", 0)
    share = (operator.cpu_seconds() - cpu) / bench.size.rest_seconds
    bench.row("operator's processor time at rest", share * 100, "% of a core")


def _patches(bench: Bench, operator: Operator) -> None:
    """Spec patches at 5/s; from the audit time of each to that of the Deployment's patch."""
    size, api = bench.size, bench.api
    mark, begin = bench.plane.audit.mark(), time.monotonic()
    chosen = [_name(size.models - 1 - number % (size.models - size.autoscaled)) for number in range(size.patches)]
    for number, name in enumerate(chosen):
        time.sleep(max(0.0, begin + number / 5 - time.monotonic()))
        api.patch("LeptonModel", name, {"spec": {"drain": {"timeoutSeconds": 100 + number}}}, FLEET)
    quiet(bench.plane, [operator.user], still=3, seconds=120)
    asked: dict[str, list[float]] = {}
    answered: dict[str, list[float]] = {}
    for write in bench.plane.audit.since(mark):
        if write.user == "tests-admin" and write.resource == "leptonmodels":
            asked.setdefault(write.name, []).append(write.received)
        elif write.user == operator.user and write.resource == "deployments" and write.code < 300:
            answered.setdefault(write.name, []).append(write.received)
    delays = sorted(
        min((then - since for then in answered.get(name, []) if then >= since), default=math.inf)
        for name, times in asked.items()
        for since in times
    )
    bench.row(f"{size.patches} spec patches at 5/s, to the Deployment's patch: p50", statistics.median(delays), "s")
    bench.row("... p99", delays[math.ceil(len(delays) * 0.99) - 1], "s", 1)


def _step(bench: Bench, operator: Operator, pods: Pods) -> None:
    """The pods' load jumps by ten; until the Deployment's replicas change."""
    mark, begin = bench.plane.audit.mark(), time.time()
    _tell(bench.api, pods, Figures(running=10 * LOAD), bench.size.autoscaled)
    told = time.time()

    def patched() -> dict[str, float]:
        first: dict[str, float] = {}
        for write in bench.plane.audit.since(mark):
            if write.user == operator.user and write.resource == "deployments" and write.code < 300:
                first.setdefault(write.name, write.received)
        return first

    scaled = [_name(number) for number in range(bench.size.autoscaled)]
    eventually(lambda: all(name in patched() for name in scaled), "replicas change", 120)
    delays = sorted(patched()[name] - begin for name in scaled)
    bench.row(f"load x 10 on {len(scaled)} models, to the change of replicas: p50", statistics.median(delays), "s")
    bench.row("... most", delays[-1], "s", 5)
    print(f"(telling the pods took {told - begin:.2f} s of it)", file=sys.stderr)


def _upgrade(bench: Bench, operator: Operator) -> None:
    def templates() -> dict[str, Object]:
        return {d["metadata"]["name"]: d["spec"]["template"] for d in bench.api.list("Deployment", FLEET)}

    quiet(bench.plane, [operator.user], still=3, seconds=120)
    before = templates()
    operator.stop()
    operator.restart(["--server-image=lepton-server:next", "--server-arg=--max-num-batched-tokens=4096"])
    mark = bench.plane.audit.mark()
    eventually(lambda: any(w.user == operator.user for w in bench.plane.audit.since(mark)), "the new one leads")
    quiet(bench.plane, [operator.user], still=10, seconds=120)
    after = templates()
    changed = sum(after[name] != before[name] for name in before)
    bench.row("pod templates changed by an upgrade of the operator", changed, "templates", 0)


# --- kills


def kills(bench: Bench) -> None:
    """The operator is killed at random moments of scripted lives; the end state is that of an undisturbed one."""
    api, plane, size = bench.api, bench.plane, bench.size
    operator = Operator(plane, "kills", args=NO_LEASE)
    script = life.script(50, 7)

    def lived(
        namespace: str,
        seconds: float,
        moments: Sequence[float],
        disturb: Callable[[], object],
        recover: Callable[[], None] = plane.wait_ready,
    ) -> dict[str, Object]:
        api.create({"kind": "Namespace", "metadata": {"name": namespace}})
        with _at(moments, disturb):
            life.live(api, namespace, script, seconds)
        recover()
        if operator.process.poll() is not None:
            operator.restart()
        _settle(bench, operator, namespace)
        return normal(api, namespace)

    def kill() -> None:
        operator.kill()
        operator.restart()

    try:
        expected = lived("undisturbed", 5, [], kill)
        chance = random.Random(1)
        wrong = 0
        for number in range(size.lives):
            moments = sorted(chance.uniform(0.2, size.kills * 2.5) for _ in range(size.kills))
            found = differences(expected, lived(f"killed-{number}", size.kills * 2.5, moments, kill))
            wrong += bool(found)
            print(*found[:5], sep="\n", file=sys.stderr, flush=True)
        bench.row(f"end states that differ after {size.lives * size.kills} kills", wrong, "states", 0)
        for name in SERVERS:
            restart = partial(plane.restart, name, False)
            found = differences(expected, lived(f"restarted-{name}", 6, [1.5], restart, plane.recover))
            print(*found[:5], sep="\n", file=sys.stderr, flush=True)
            bench.row(f"end states that differ after {name} was killed", bool(found), "states", 0)
    finally:
        operator.close()


@contextmanager
def _at(moments: Sequence[float], what: Callable[[], object]) -> Iterator[None]:
    """Do something at these moments from now, beside the body."""
    begin = time.monotonic()

    def run() -> None:
        for moment in moments:
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            what()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _settle(bench: Bench, operator: Operator, namespace: str) -> None:
    def settled() -> bool:
        return all(is_ready(item) for item in bench.api.list("LeptonModel", namespace))

    eventually(settled, f"all models of {namespace} ready", 180, every=0.5)
    eventually(lambda: collected(bench.api, namespace), "garbage is collected", 120, every=0.5)
    quiet(bench.plane, [operator.user], still=2, seconds=120)


# --- leadership


def leadership(bench: Bench) -> None:
    """The leader is killed, frozen, cut off: how soon the other leads, and whether anybody writes who does not."""
    for what in ("killed", "frozen", "cut off"):
        _handover(bench, what)


def _handover(bench: Bench, what: str) -> None:
    api, plane = bench.api, bench.plane
    mark = plane.audit.mark()
    relay = Relay(plane)
    word = what.replace(" ", "-")
    users = [f"operator-{word}-{one}" for one in ("a", "b")]

    def leads(user: str) -> bool:
        found = api.find("Lease", LEASE, NAMESPACE)
        return bool(found and str(found["spec"].get("holderIdentity") or "").startswith(user))

    if api.find("Lease", LEASE, NAMESPACE):
        api.delete("Lease", LEASE, NAMESPACE)
    leader = Operator(plane, f"{word}-a", args=(), server=relay.server)
    eventually(lambda: leads(users[0]), "the first leads", 30)
    other = Operator(plane, f"{word}-b", args=())
    namespace = f"leader-{word}"
    api.create({"kind": "Namespace", "metadata": {"name": namespace}})
    stop = threading.Event()
    work = threading.Thread(target=_change, args=(api, namespace, stop))
    work.start()  # Both always have something to write.
    try:
        time.sleep(3)
        begin = time.monotonic()
        if what == "killed":
            leader.kill()
        elif what == "frozen":
            os.kill(leader.process.pid, signal.SIGSTOP)
        else:
            relay.cut()
        eventually(lambda: leads(users[1]), "the second leads", 60, every=0.05)
        bench.row(f"leader {what}: the other leads", time.monotonic() - begin, "s", 20)
        if what == "frozen":
            time.sleep(max(0.0, begin + bench.size.frozen_seconds - time.monotonic()))
            os.kill(leader.process.pid, signal.SIGCONT)
            leader.process.wait(60)
        elif what == "cut off":
            leader.process.wait(60)
            relay.mend()
        time.sleep(3)
    finally:
        stop.set()
        work.join()
        leader.close()
        other.close()
        relay.close()
    wrong = trespasses(plane.audit.since(mark), TERMS, users)
    print(*wrong[:5], sep="\n", file=sys.stderr, flush=True)
    bench.row(f"leader {what}: writes of who did not lead", len(wrong), "writes", 0)


def _change(api: Api, namespace: str, stop: threading.Event) -> None:
    for number in range(5):
        api.create(model(f"m{number}"), namespace)
    number = 0
    while not stop.wait(0.1):
        number += 1
        api.patch(
            "LeptonModel", f"m{number % 5}", {"spec": {"drain": {"timeoutSeconds": 10 + number % 900}}}, namespace
        )


PARTS: dict[str, Callable[[Bench], None]] = {"scale": fleet, "kills": kills, "leadership": leadership}

if __name__ == "__main__":
    sys.exit(main())
