"""Autoscaling from real sockets: the shipped operator reads StatsService at the pods' own addresses."""

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.api import Api, Object, eventually
from tests.cluster.available import unavailable
from tests.cluster.control_plane import ControlPlane
from tests.cluster.models import condition, model, wait_condition, wait_ready
from tests.cluster.operators import Operator, quiet
from tests.cluster.pods import Figures, Pods

pytestmark = pytest.mark.usefixtures("operator")
AUTOSCALING = {
    "minReplicas": 1,
    "maxReplicas": 6,
    "targetStreams": 10,
    "stableSeconds": 5,
    "panicSeconds": 1,
    "scaleDownSeconds": 4,
}


@pytest.fixture(scope="module")
def pods(cluster: ControlPlane) -> Iterator[Pods]:
    if cluster.namespace is None:
        unavailable("no network namespace can be made here, so pods have no addresses")
    made = Pods(cluster)
    yield made
    made.close()


class Load:
    """The load on one model: what its pods say, newly started ones too."""

    def __init__(self, api: Api, pods: Pods, namespace: str) -> None:
        self.api, self.pods, self.namespace = api, pods, namespace
        self.figures: Callable[[Object], Figures] = lambda pod: Figures()

    def addresses(self) -> dict[str, Object]:
        """The pods that have an address, by it."""
        found = self.api.list("Pod", self.namespace)
        return {p["status"]["podIP"]: p for p in found if p.get("status", {}).get("podIP")}

    def tell(self) -> None:
        """Let all pods that are there now answer."""
        self.pods.set({address: self.figures(pod) for address, pod in self.addresses().items()})

    def until(self, check: Callable[[Object], bool], what: str, seconds: float = 60) -> Object:
        """Keep all pods answering until the model is so."""

        def checked() -> Object | None:
            self.tell()
            found = self.api.get("LeptonModel", "m", self.namespace)
            return found if check(found) else None

        found: Object = eventually(checked, what, seconds, every=0.2)
        return found

    def becomes(self, replicas: int, seconds: float = 60) -> Object:
        """Wait until the model has so many pods, all ready."""
        return self.until(
            lambda found: (
                replicas == self.wanted() == found["status"].get("readyReplicas") == found["status"].get("replicas")
            ),
            f"{replicas} replicas",
            seconds,
        )

    def wanted(self) -> int:
        """Replicas of the Deployment."""
        return int(self.api.get("Deployment", "m", self.namespace)["spec"]["replicas"])


def spread(streams: int) -> Callable[[Object], Figures]:
    """Every pod has so many."""
    return lambda pod: Figures(running=streams)


@pytest.fixture
def load(api: Api, pods: Pods, namespace: str) -> Iterator[Load]:
    api.create(model("m", autoscaling=AUTOSCALING), namespace)
    wait_ready(api, namespace)
    made = Load(api, pods, namespace)
    made.tell()
    yield made
    made.pods.set({address: Figures(answer="closed") for address in made.addresses()})


def test_a_step_of_load_is_followed_up_within_seconds_and_down_after_the_window(load: Load, api: Api) -> None:
    wait_condition(api, "m", "ScalingActive", "True", "Autoscaling", load.namespace)
    load.figures = spread(40)  # Four replicas' worth on the first pod.
    begin = time.monotonic()
    load.tell()
    eventually(lambda: load.wanted() >= 4, "replicas follow", 20, every=0.05)
    assert time.monotonic() - begin < 20
    load.figures = spread(10)  # It has spread.
    found = load.becomes(4)
    assert found["status"]["autoscaling"]["desired"] == 4
    assert float(found["status"]["autoscaling"]["load"]) >= 30
    load.figures = spread(0)
    load.becomes(1)


def test_replicas_stay_within_their_bounds(load: Load) -> None:
    load.figures = spread(500)
    load.becomes(6)
    load.figures = spread(0)
    load.becomes(1)


def test_refused_requests_are_load(load: Load) -> None:
    """A bounded queue hides what it refuses: 20 a second at 2 s each are 40 streams."""
    begin = time.monotonic()

    def refusing(pod: Object) -> Figures:
        return Figures(running=10, rejected=int(20 * (time.monotonic() - begin)), service_seconds=2.0)

    load.figures = refusing
    load.until(lambda found: load.wanted() >= 4, "replicas for what was refused")


def test_referenced_cache_is_load_and_cached_blocks_are_not(load: Load) -> None:
    load.figures = lambda pod: Figures(running=1, kv_blocks_total=1000, kv_blocks_referenced=950)
    load.until(lambda found: load.wanted() >= 2, "a replica more for the cache")


def test_the_pods_with_the_fewest_streams_go(load: Load, api: Api) -> None:
    load.figures = spread(40)
    load.until(lambda found: load.wanted() == 6, "all replicas that may be")
    load.until(lambda found: condition(found, "Ready")["status"] == "True", "all are ready")
    # Of pods that are equally ready a ReplicaSet takes the youngest first.
    pods = api.list("Pod", load.namespace)
    youngest = max(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    busy = youngest["metadata"]["name"]
    load.figures = lambda pod: Figures(running=6 if pod["metadata"]["name"] == busy else 0)
    load.becomes(1)
    assert [pod["metadata"]["name"] for pod in api.list("Pod", load.namespace)] == [busy]


def test_metrics_that_cannot_be_had_change_nothing(load: Load, api: Api) -> None:
    load.figures = spread(40)
    load.until(lambda found: load.wanted() >= 4, "four replicas")
    load.figures = spread(10)
    load.until(lambda found: condition(found, "Ready")["status"] == "True", "all are ready")
    before = load.wanted()
    answers = itertools.cycle(["garbage", "never", "error", "closed"])
    by_pod = {pod["metadata"]["name"]: next(answers) for pod in api.list("Pod", load.namespace)}
    load.figures = lambda pod: Figures(answer=by_pod[pod["metadata"]["name"]])
    load.tell()
    # Longer than the window after which an idle model would go down.
    said = wait_condition(api, "m", "ScalingActive", "False", "MetricsUnavailable", load.namespace)
    assert said["message"]
    assert load.wanted() == before
    load.figures = spread(0)
    load.becomes(1)


def test_with_some_pods_silent_it_goes_up_on_the_known_sum_and_never_down(load: Load, api: Api) -> None:
    load.figures = spread(20)
    load.until(lambda found: load.wanted() >= 2, "two replicas")
    load.figures = spread(10)  # As much as they should have: it stays at that.
    found = load.until(lambda found: condition(found, "Ready")["status"] == "True", "all are ready")
    count = found["status"]["replicas"]
    silent = min(pod["metadata"]["name"] for pod in api.list("Pod", load.namespace))
    answering = {"streams": 0}
    load.figures = lambda pod: (
        Figures(answer="never") if pod["metadata"]["name"] == silent else Figures(running=answering["streams"])
    )
    load.tell()
    # Longer than the window after which it would go down.
    wait_condition(api, "m", "ScalingActive", "True", "MetricsIncomplete", load.namespace)
    assert load.wanted() == count
    answering["streams"] = 60
    load.until(lambda found: load.wanted() > count, "up on the known sum")


def test_late_answers_do_not_hold_the_others_up(load: Load, api: Api, cluster: ControlPlane) -> None:
    load.figures = lambda pod: Figures(running=40, answer="late", delay=0.5)
    load.until(lambda found: load.wanted() >= 4, "replicas follow late answers too")


def test_autoscaling_replaces_replicas(load: Load, api: Api) -> None:
    """`replicas` is ignored with autoscaling, and counts again without it."""
    api.patch("LeptonModel", "m", {"spec": {"replicas": 5}}, load.namespace, "scale")
    load.figures = spread(5)
    load.until(lambda found: found["status"].get("observedGeneration") == found["metadata"]["generation"], "seen")
    assert load.wanted() == 1
    api.patch("LeptonModel", "m", {"spec": {"autoscaling": None}}, load.namespace)
    wait_condition(api, "m", "ScalingActive", "False", "NotConfigured", load.namespace)
    eventually(lambda: load.wanted() == 5, "spec.replicas counts")


def test_a_steady_load_is_quiet(load: Load, cluster: ControlPlane, operator: Operator) -> None:
    load.figures = spread(5)
    load.tell()
    quiet(cluster, [operator.user], still=5)


def test_a_new_leader_keeps_the_replicas(load: Load, operator: Operator) -> None:
    load.figures = spread(30)
    load.until(lambda found: load.wanted() >= 3, "three replicas")
    load.figures = spread(10)
    found = load.until(lambda found: condition(found, "Ready")["status"] == "True", "all are ready")
    count = found["status"]["replicas"]
    operator.kill()
    operator.restart()
    fewest = [count]

    def watched() -> bool:
        load.tell()
        fewest[0] = min(fewest[0], load.wanted())
        return bool(load.api.get("Lease", "lepton-operator", "lepton-system")["spec"]["leaseTransitions"])

    since = time.monotonic()
    eventually(lambda: watched() and time.monotonic() - since > 8, "the new leader works", every=0.2)
    assert fewest[0] == count
