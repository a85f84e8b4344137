"""Observed against desired: what is applied, kept, deleted, refused."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lepton_operator import names
from lepton_operator.observed import Child
from lepton_operator.plan import Action, Annotate, Apply, Delete
from lepton_operator.settings import PodSettings
from tests.operator.conftest import HUB, World

Make = Callable[..., Any]


def applied(actions: tuple[Action, ...]) -> set[str]:
    return {f"{a.kind} {a.manifest['metadata']['name']}" for a in actions if isinstance(a, Apply)}


def edited(child: Child, change: Callable[[dict[str, Any]], None]) -> Child:
    body = msgspec.json.decode(child.raw)
    change(body)
    metadata = msgspec.structs.replace(
        child.metadata, labels=body["metadata"].get("labels", {}), annotations=body["metadata"].get("annotations", {})
    )
    return msgspec.structs.replace(child, raw=msgspec.json.encode(body), metadata=metadata)


@pytest.fixture
def settled(world: World, model: Make) -> World:
    world.apply(world.plan(model()))
    world.settle()
    return world


def test_everything_is_applied_once(world: World, model: Make) -> None:
    first = world.plan(model())
    assert applied(first.actions) == {
        "ServiceAccount m", "Service m", "Service m-headless", "PodDisruptionBudget m", "Deployment m",
    }  # fmt: skip
    world.apply(first)
    assert world.plan(model()).actions == ()


def test_the_same_model_made_anew_replaces_what_the_former_left(settled: World, model: Make) -> None:
    again = model()
    again = msgspec.structs.replace(again, metadata=msgspec.structs.replace(again.metadata, uid="another"))
    planned = settled.plan(again)
    assert planned.conflicts == ()
    assert len(planned.actions) == 5
    assert all(isinstance(action, Delete) and action.former for action in planned.actions)


def test_what_a_model_of_another_name_owns_is_a_strangers(settled: World, model: Make) -> None:
    for (kind, name), child in settled.children.items():
        (owner,) = child.metadata.owner_references
        theirs = [msgspec.structs.replace(owner, uid="another", name="other")]
        metadata = msgspec.structs.replace(child.metadata, owner_references=theirs)
        settled.children[kind, name] = msgspec.structs.replace(child, metadata=metadata)
    planned = settled.plan(model())
    assert planned.actions == ()
    assert len(planned.conflicts) == 5


def test_drift_is_repaired(settled: World, model: Make) -> None:
    def worse(body: dict[str, Any]) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["args"] = ["evil"]

    settled.children["Deployment", "m"] = edited(settled.children["Deployment", "m"], worse)
    assert applied(settled.plan(model()).actions) == {"Deployment m"}


def test_a_lost_label_is_repaired(settled: World, model: Make) -> None:
    settled.children["Service", "m"] = edited(
        settled.children["Service", "m"], lambda body: body["metadata"]["labels"].pop(names.MANAGED_BY)
    )
    assert applied(settled.plan(model()).actions) == {"Service m"}


def test_what_others_add_is_left_alone(settled: World, model: Make) -> None:
    def more(body: dict[str, Any]) -> None:
        body["metadata"]["annotations"]["sidecar/inject"] = "true"
        spec = body["spec"]["template"]["spec"]
        spec["containers"].append({"name": "sidecar", "image": "s"})
        spec["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
        spec["dnsPolicy"] = "ClusterFirst"
        body["spec"]["template"]["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/restartedAt"] = "now"

    settled.children["Deployment", "m"] = edited(settled.children["Deployment", "m"], more)
    assert settled.plan(model()).actions == ()


def test_a_deleted_object_is_made_again(settled: World, model: Make) -> None:
    del settled.children["Service", "m"]
    assert applied(settled.plan(model()).actions) == {"Service m"}


def test_an_object_that_is_being_deleted_is_waited_for(settled: World, model: Make) -> None:
    found = settled.children["Service", "m"]
    leaving = msgspec.structs.replace(found.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    settled.children["Service", "m"] = msgspec.structs.replace(found, metadata=leaving)
    assert settled.plan(model()).actions == ()


def test_an_orphan_is_deleted(settled: World, model: Make) -> None:
    settled.apply(settled.plan(model(networkPolicy={"enabled": True})))
    [action] = settled.plan(model()).actions
    assert isinstance(action, Delete)
    assert (action.kind, action.target.metadata.name) == ("NetworkPolicy", "m")


def test_a_strangers_object_is_neither_applied_over_nor_deleted(settled: World, model: Make) -> None:
    found = settled.children["Service", "m"]
    theirs = msgspec.structs.replace(found.metadata, owner_references=[])
    settled.children["Service", "m"] = msgspec.structs.replace(found, metadata=theirs)
    settled.children["NetworkPolicy", "other"] = msgspec.structs.replace(found, metadata=theirs)
    planned = settled.plan(model(drain={"timeoutSeconds": 1}))
    assert planned.conflicts == ("Service m",)
    assert applied(planned.actions) == {"Deployment m"}
    assert not [action for action in planned.actions if isinstance(action, Delete)]


OTHER = PodSettings(server_image="server:2", default_args=("--new-flag",))


def test_an_upgrade_of_the_operator_changes_no_pod(settled: World, model: Make) -> None:
    assert settled.plan(model(), settings=OTHER).actions == ()


def test_after_an_upgrade_the_kept_template_is_defended_against_drift(settled: World, model: Make) -> None:
    def worse(body: dict[str, Any]) -> None:
        body["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"

    settled.children["Deployment", "m"] = edited(settled.children["Deployment", "m"], worse)
    [action] = settled.plan(model(), settings=OTHER).actions
    assert isinstance(action, Apply)
    assert action.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "server:1"


def test_after_an_upgrade_replicas_change_without_the_template(settled: World, model: Make) -> None:
    [action] = settled.plan(model(replicas=3), settings=OTHER).actions
    assert isinstance(action, Apply)
    assert action.manifest["spec"]["replicas"] == 3
    assert action.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "server:1"


def test_an_upgrade_rolls_pods_when_the_spec_says_so_or_changes(settled: World, model: Make) -> None:
    rolled = settled.plan(model(rollout={"onUpgrade": "Roll"}), settings=OTHER)
    changed = settled.plan(model(pod={"env": [{"name": "A", "value": "b"}]}), settings=OTHER)
    for planned in (rolled, changed):
        [action] = [a for a in planned.actions if isinstance(a, Apply) and a.kind == "Deployment"]
        assert action.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "server:2"


def test_a_note_that_was_edited_by_hand_is_not_believed(settled: World, model: Make) -> None:
    def forged(body: dict[str, Any]) -> None:
        body["metadata"]["annotations"][names.TEMPLATE] = '{"spec": {"containers": []}}'

    settled.children["Deployment", "m"] = edited(settled.children["Deployment", "m"], forged)
    [action] = settled.plan(model()).actions
    assert isinstance(action, Apply)
    assert action.manifest["spec"]["template"]["spec"]["containers"]


def test_the_largest_templates_note_fits_an_annotation(world: World, model: Make) -> None:
    term = {"topologyKey": "z", "labelSelector": {"matchLabels": {f"k{i}" * 15: "v" * 63 for i in range(16)}}}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [term] * 8}
    pod = {
        "env": [{"name": f"V{i}", "value": "\U0001f600" * 750} for i in range(32)],
        "affinity": {"podAffinity": required, "podAntiAffinity": required},
        "annotations": {f"a{i}": "\U0001f600" * 375 for i in range(16)},
    }
    spec = {**HUB, "pod": pod, "server": {"args": ["\U0001f600" * 187] * 32}}
    made = model(**spec)
    world.apply(world.plan(made))
    world.set_status("Job", next(name for kind, name in world.children if kind == "Job"), conditions=COMPLETE)
    planned = world.plan(made)
    world.apply(planned)
    annotations = world.children["Deployment", "m"].metadata.annotations
    assert sum(len(k) + len(v.encode()) for k, v in annotations.items()) < 256 * 1024
    assert world.plan(made).actions == ()
    assert world.plan(made, settings=OTHER).actions == ()


COMPLETE = [{"type": "Complete", "status": "True"}]


@pytest.fixture
def cached(world: World, model: Make) -> tuple[World, Any, str]:
    made = model(**HUB, cache={"size": "1Gi"})
    world.apply(world.plan(made))
    [job] = [name for kind, name in world.children if kind == "Job"]
    return world, made, job


def test_pods_wait_for_the_weights(cached: tuple[World, Any, str]) -> None:
    world, made, job = cached
    assert ("Deployment", "m") not in world.children
    assert world.plan(made).actions == ()
    world.set_status("Job", job, conditions=COMPLETE, succeeded=1)
    assert applied(world.plan(made).actions) == {"Deployment m"}


def test_while_a_new_source_is_fetched_the_old_pods_stay(cached: tuple[World, Any, str], model: Make) -> None:
    world, made, job = cached
    world.set_status("Job", job, conditions=COMPLETE)
    world.apply(world.plan(made))
    world.settle()
    new = model(model={"source": {"huggingFace": {"repo": "owner/name", "revision": "v2"}}}, cache={"size": "1Gi"})
    planned = world.plan(new)
    made_jobs = {name for name in applied(planned.actions) if name.startswith("Job")}
    assert len(made_jobs) == 1
    assert "Deployment m" not in applied(planned.actions)
    world.apply(planned)
    # Replicas follow meanwhile.
    [action] = [a for a in world.plan(new, 3).actions if isinstance(a, Apply)]
    assert action.manifest["spec"]["replicas"] == 3
    assert job.rpartition("-")[2] in str(action.manifest["spec"]["template"])


def fetcher(pod: Make, code: int, message: str) -> Any:
    state = {"terminated": {"exitCode": code, "message": message}}
    return pod("fetch", component=names.FETCH, ready=False, containers=[{"name": "fetch", "state": state}])


def test_the_report_outlives_the_pod_that_made_it(cached: tuple[World, Any, str], pod: Make) -> None:
    world, made, job = cached
    world.set_status("Job", job, conditions=COMPLETE)
    world.fetch_pods = [fetcher(pod, 0, '{"revision":"abc","others":1}')]
    planned = world.plan(made)
    assert planned.preload.report is not None
    assert planned.preload.report.revision == "abc"
    [note] = [a for a in planned.actions if isinstance(a, Annotate)]
    assert note.annotations == {names.REPORT: '{"revision":"abc","others":1}'}


def test_old_folders_are_removed_after_the_rollout(cached: tuple[World, Any, str], pod: Make) -> None:
    world, made, job = cached
    world.set_status("Job", job, conditions=COMPLETE)
    world.fetch_pods = [fetcher(pod, 0, '{"revision":"abc","others":1}')]
    world.apply(world.plan(made))
    assert not [name for name in applied(world.plan(made).actions) if "prune" in name]
    world.settle()
    assert [name for name in applied(world.plan(made).actions) if "prune" in name]


def test_a_failed_fetch_is_tried_again_after_a_while_or_a_change(cached: tuple[World, Any, str], model: Make) -> None:
    world, made, job = cached
    failed = [{"type": "Failed", "status": "True", "lastTransitionTime": "1970-01-01T00:10:00Z"}]
    world.set_status("Job", job, conditions=failed, failed=1)
    early = world.plan(made, now=700.0)
    assert early.actions == ()
    assert early.look_again == pytest.approx(200.0)
    [again] = world.plan(made, now=901.0).actions
    assert isinstance(again, Delete)
    [at_once] = world.plan(model(generation=2, **HUB, cache={"size": "1Gi"}), now=700.0).actions
    assert isinstance(at_once, Delete)
