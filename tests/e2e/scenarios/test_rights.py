"""The operator's rights: each is used, and none is missing.

What the other scenarios do not use is used here: everything of a former model of the same name is in the way while the
garbage collector sleeps, so the operator removes it itself, kind by kind.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lepton_operator.names import SERVER, labels
from tests.cluster.api import Object, eventually
from tests.cluster.models import model, wait_ready
from tests.e2e.rights import granted, rules_of, use
from tests.e2e.world import ACCOUNT, HOME, World

NAMESPACE = "rights"
_PORTS = {"ports": [{"name": "left", "port": 1}]}
_CLAIM = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
_SELECTED = {"matchLabels": {"left": "over"}}
_TEMPLATE = {
    "metadata": {"labels": {"left": "over"}},
    "spec": {"containers": [{"name": "left", "image": "lepton.invalid/none"}]},
}
_FORMER: tuple[tuple[str, str, Any], ...] = (
    ("Deployment", "m", {"replicas": 0, "selector": _SELECTED, "template": _TEMPLATE}),
    ("Service", "m", _PORTS),
    ("ServiceAccount", "m", None),
    ("PodDisruptionBudget", "m", {"maxUnavailable": 1, "selector": _SELECTED}),
    ("NetworkPolicy", "m", {"podSelector": _SELECTED}),
    ("PodMonitor", "m", {"selector": _SELECTED}),
    ("PersistentVolumeClaim", "f-cache", _CLAIM),
)


def former(kind: str, name: str, spec: Any) -> Object:
    """An object of a model that is no more."""
    of = name.partition("-")[0]
    owner = {"apiVersion": "lepton.dev/v1alpha1", "kind": "LeptonModel", "name": of, "uid": "of-a-former-one"}
    metadata = {"name": name, "labels": labels(of, SERVER), "ownerReferences": [{**owner, "controller": True}]}
    made: Object = {"kind": kind, "metadata": metadata}
    return made if spec is None else {**made, "spec": spec}


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing while the body runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(300)
def test_what_a_former_model_left_is_replaced(world: World) -> None:
    api, namespace = world.api, world.namespace(NAMESPACE)
    source = {"http": {"url": "http://lepton.invalid/weights/"}}
    cache = {"size": "1Gi", "accessMode": "ReadWriteMany"}
    with stopped(world.cluster.plane.programs["kube-controller-manager"].process.pid):
        left = {(kind, name): api.create(former(kind, name, spec), namespace) for kind, name, spec in _FORMER}
        api.create(model("m", networkPolicy={"enabled": True}), namespace)
        api.create(model("f", model={"source": source}, cache=cache), namespace)

        def replaced() -> bool:
            now = {key: api.find(*key, namespace) for key in left}
            late[:] = [
                key
                for key, found in now.items()
                if found is None or found["metadata"]["uid"] == left[key]["metadata"]["uid"]
                # A claim that is deleted stays until a controller that is stopped has looked whether a pod uses it.
                if found is None or "deletionTimestamp" not in found["metadata"]
            ]
            return not late

        late: list[tuple[str, str]] = []
        eventually(replaced, "all of it is made anew", 90)
    wait_ready(api, namespace, ["m"], seconds=120)


@pytest.mark.timeout(300)
def test_another_source_ends_the_job_of_the_former_one(world: World) -> None:
    api = world.api

    def jobs() -> set[str]:
        return {
            job["metadata"]["uid"] for job in api.list("Job", NAMESPACE) if job["metadata"]["name"].startswith("f-")
        }

    before = eventually(jobs, "the Job", 60)
    source = {"http": {"url": "http://lepton.invalid/others/"}}
    api.patch("LeptonModel", "f", {"spec": {"model": {"source": source}}}, NAMESPACE)
    eventually(lambda: jobs() and not jobs() & before, "the Job of the other source alone", 60)
    api.delete("LeptonModel", "f", NAMESPACE)
    api.delete("LeptonModel", "m", NAMESPACE)


def test_each_right_is_used_and_none_is_missing(world: World) -> None:
    (account,) = {pod["spec"]["serviceAccountName"] for pod in world.operators()}
    found = use(world.cluster.plane.audit_log, [f"{ACCOUNT}{account}"])
    has = granted(rules_of(world.api, account, HOME))
    unused = ", ".join(map(str, sorted(has - found.used)))
    world.figures.add("rights that the operator has, and lacked", f"{len(has)}, {len(found.forbidden)}", "0 lacking")
    world.figures.add("rights that no scenario used", unused or "none", "none")
    assert not found.forbidden, sorted(map(str, found.forbidden))
    assert not unused
