"""All objects of a model together."""

from dataclasses import dataclass

from lepton_operator.desired.cache import cache_claim, fetch_job, prune_job
from lepton_operator.desired.network import network_policy, services
from lepton_operator.desired.pod import pod_template, template_inputs
from lepton_operator.desired.weights import needs_job
from lepton_operator.desired.workload import account, deployment, disruption_budget, pod_monitor
from lepton_operator.observed import Manifest, Model
from lepton_operator.settings import PodSettings


@dataclass(frozen=True)
class Choices:
    """What is decided from what was observed, beside the spec.

    Attributes:
        replicas: pods that the Deployment shall have.
        in_place: a pod ends before its successor starts.
        weights_ready: whether the pods can be given the present source; without it the Deployment stays as it is.
        revision: what the fetch Job found the source to be.
        report: the fetch Job's report.
        kept: the template that stays: (hash of its inputs, template); None for a new one.
        prune: whether folders of former sources can be removed.
        pod_monitors: whether the cluster knows PodMonitors.
    """

    replicas: int
    in_place: bool = False
    weights_ready: bool = True
    revision: str | None = None
    report: str | None = None
    kept: tuple[str, Manifest] | None = None
    prune: bool = False
    pod_monitors: bool = False


def desired(model: Model, settings: PodSettings, choices: Choices) -> list[Manifest]:
    """What shall be, in the order in which it is applied."""
    found: list[Manifest | None] = [account(model), *services(model), disruption_budget(model)]
    if model.spec.network_policy.enabled:
        found.append(network_policy(model, settings))
    if choices.pod_monitors:
        found.append(pod_monitor(model))
    found.append(cache_claim(model))
    if needs_job(model):
        found.append(fetch_job(model, settings, choices.report))
    if choices.prune:
        found.append(prune_job(model, settings))
    if choices.kept is not None:
        inputs, template = choices.kept
        found.append(deployment(model, template, inputs, choices.replicas, choices.in_place))
    elif choices.weights_ready:
        inputs = template_inputs(model, choices.revision)
        template = pod_template(model, settings, choices.revision)
        found.append(deployment(model, template, inputs, choices.replicas, choices.in_place))
    return [manifest for manifest in found if manifest is not None]
