"""What to do: the observed against the desired. Pure; the clock and the load are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from lepton_operator import names
from lepton_operator.api.spec import OnUpgrade
from lepton_operator.compare import matches
from lepton_operator.desired import Choices, desired
from lepton_operator.desired.cache import fetch_job_name
from lepton_operator.desired.pod import decode_template, template_inputs
from lepton_operator.observed import Child, Deployment, Job, Manifest, Model, Pod
from lepton_operator.preload import Preload, preload
from lepton_operator.rollout import deadlock, replace_in_place, settled
from lepton_operator.scale_down import COST, ScaleStep, scale_step
from lepton_operator.settings import PodSettings

RETRY_FAILED_JOB_SECONDS = 300.0


@dataclass(frozen=True)
class Observed:
    """What is known of one model.

    Attributes:
        children: owned or labelled objects of its namespace, by kind and name.
        pods: those of its servers. fetch_pods: those of its Jobs.
        mount_failures: by pod name, what the kubelet said when it could not mount a volume.
    """

    model: Model
    children: Mapping[tuple[str, str], Child] = field(default_factory=dict)
    pods: Sequence[Pod] = ()
    fetch_pods: Sequence[Pod] = ()
    mount_failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def deployment(self) -> Deployment | None:
        """Its Deployment."""
        found = self.children.get(("Deployment", self.model.metadata.name))
        return found if isinstance(found, Deployment) and found.owned_by(self.model.metadata.uid) else None

    @property
    def fetch_job(self) -> Job | None:
        """The Job that fetches the present source."""
        found = self.children.get(("Job", fetch_job_name(self.model)))
        return found if isinstance(found, Job) and found.owned_by(self.model.metadata.uid) else None


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a manifest; `live` is what it replaces, None for what must not exist yet."""

    manifest: Manifest
    live: Child | None

    @property
    def kind(self) -> str:
        """Kind of the object."""
        kind: str = self.manifest["kind"]
        return kind


@dataclass(frozen=True)
class Delete:
    """Deletion of an orphan; a former one belongs to a model that was of this name before."""

    kind: str
    target: Child
    former: bool = False


@dataclass(frozen=True)
class Annotate:
    """Annotations of an existing object; None removes one."""

    kind: str
    target: Child | Pod
    annotations: Mapping[str, str | None]


Action = Apply | Delete | Annotate


@dataclass(frozen=True)
class Plan:
    """What to do, and what was decided on the way.

    Attributes:
        conflicts: strangers' objects of our names, as `Kind name`.
        target: replicas that are wanted. step: how they are reached.
        deadlock: the scheduler's sentence, when a rollout waits for room that its own old pods take.
        look_again: seconds after which time alone changes the plan; None for never.
    """

    actions: tuple[Action, ...]
    conflicts: tuple[str, ...]
    target: int
    step: ScaleStep
    preload: Preload
    deadlock: str | None
    in_place: bool
    look_again: float | None = None


def plan(
    observed: Observed,
    settings: PodSettings,
    target: int,
    *,
    now: float,
    loads: Mapping[str, int] | None = None,
    pod_monitors: bool = False,
) -> Plan:
    """Compares and decides.

    Args:
        target: replicas that are wanted: the spec's or the autoscaler's.
        now: Unix time.
        loads: streams by pod name, when the pods were asked.
    """
    model, deployment = observed.model, observed.deployment
    job = observed.fetch_job
    fetched = preload(model, job, observed.fetch_pods)
    stuck = deadlock(deployment, observed.pods)
    step = ScaleStep(target)
    if deployment is not None:
        step = scale_step(deployment, observed.pods, target, loads, stuck is not None)
    revision = fetched.report.revision if fetched.report is not None and model.spec.cache is None else None
    others = fetched.report.others if fetched.report is not None else 0
    choices = Choices(
        replicas=step.replicas,
        in_place=replace_in_place(model, deployment, observed.pods),
        weights_ready=fetched.done,
        revision=revision or None,
        report=fetched.report_text,
        kept=_kept(model, deployment, fetched, revision or None),
        prune=model.spec.cache is not None and others > 0 and fetched.done and settled(deployment),
        pod_monitors=pod_monitors,
    )
    actions: list[Action] = []
    conflicts: list[str] = []
    wanted: set[tuple[str, str]] = set()
    for manifest in desired(model, settings, choices):
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        wanted.add((kind, name))
        live = observed.children.get((kind, name))
        if live is not None and not live.owned_by(model.metadata.uid):
            if not live.formerly_owned_by(model):
                conflicts.append(f"{kind} {name}")
            elif live.metadata.deletion_timestamp is None:
                actions.append(Delete(kind, live, former=True))
        elif live is not None and live.metadata.deletion_timestamp is not None:
            continue  # It is made anew when it is gone.
        elif isinstance(live, Job):
            actions += _job_actions(live, manifest)
        elif (made := _with_hash(manifest)) is not None and (live is None or not _up_to_date(made, live)):
            actions.append(Apply(made, live))
    actions += _orphans(observed, wanted)
    actions += [Annotate("Pod", pod, {names.DELETION_COST: COST}) for pod in step.mark]
    actions += [Annotate("Pod", pod, {names.DELETION_COST: None}) for pod in step.clear]
    retry, look_again = _retry(job, fetched, model, now)
    return Plan((*actions, *retry), tuple(conflicts), target, step, fetched, stuck, choices.in_place, look_again)


def _kept(
    model: Model, deployment: Deployment | None, fetched: Preload, revision: str | None
) -> tuple[str, Manifest] | None:
    """The template that stays as it was applied: its inputs are the same, or the new source is not fetched yet."""
    if deployment is None:
        return None
    inputs = deployment.metadata.annotations.get(names.SPEC_HASH, "")
    same = inputs == template_inputs(model, revision)
    if fetched.done and not (same and model.spec.rollout.on_upgrade is OnUpgrade.KEEP):
        return None
    template = decode_template(deployment, model if same else None)
    if template is None:
        return None
    applied = deployment.metadata.annotations.get(names.APPLIED, "")
    # Whoever edits the notes by hand gets the template of the present operator.
    return (inputs, template) if applied.endswith(names.digest(template)) else None


def _with_hash(manifest: Manifest) -> Manifest:
    """The manifest with the hash of itself, and for a Deployment that of its template, in an annotation.

    Not of its owner and namespace: a model that is made anew, or elsewhere, has the same objects by it.
    """
    identity = ("ownerReferences", "namespace")
    bare = {key: value for key, value in manifest["metadata"].items() if key not in identity}
    digest = names.digest({**manifest, "metadata": bare})
    if manifest["kind"] == "Deployment":
        digest += "-" + names.digest(manifest["spec"]["template"])
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), names.APPLIED: digest}
    return {**manifest, "metadata": metadata}


def _up_to_date(manifest: Manifest, live: Child) -> bool:
    """Whether the same manifest was applied last, and all of its fields are still as they were."""
    annotations = manifest["metadata"]["annotations"]
    if live.metadata.annotations.get(names.APPLIED) != annotations[names.APPLIED]:
        return False
    body: Any = msgspec.json.decode(live.raw)
    metadata = {key: manifest["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    wanted = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    return matches({**wanted, "metadata": metadata}, body)


def _job_actions(live: Job, manifest: Manifest) -> list[Action]:
    """A Job cannot change once it is made; only its report is noted."""
    report = manifest["metadata"].get("annotations", {}).get(names.REPORT)
    if report is not None and live.metadata.annotations.get(names.REPORT) != report:
        return [Annotate("Job", live, {names.REPORT: report})]
    return []


def _orphans(observed: Observed, wanted: set[tuple[str, str]]) -> list[Action]:
    """Owned objects that are not wanted any more. A Deployment is never one: it waits for weights at most."""
    uid = observed.model.metadata.uid
    return [
        Delete(kind, child)
        for (kind, name), child in observed.children.items()
        if (kind, name) not in wanted
        and kind != "Deployment"
        and child.owned_by(uid)
        and child.metadata.deletion_timestamp is None
    ]


def _retry(job: Job | None, fetched: Preload, model: Model, now: float) -> tuple[list[Action], float | None]:
    """A failed Job is made anew after a while, and at once when the model has changed since."""
    if job is None or not fetched.failed or job.metadata.deletion_timestamp is not None:
        return [], None
    generation = job.metadata.annotations.get(names.GENERATION, "")
    since = max((_time(c.last_transition_time) for c in job.status.conditions), default=now)
    left = since + RETRY_FAILED_JOB_SECONDS - now
    if left <= 0 or (generation and generation != str(model.metadata.generation)):
        return [Delete("Job", job)], None
    return [], left


def _time(text: str) -> float:
    """Unix time of a timestamp."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
