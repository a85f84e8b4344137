"""Deployment, ServiceAccount, PodDisruptionBudget, PodMonitor."""

from lepton_operator import names
from lepton_operator.api.source import AccessMode
from lepton_operator.desired.common import manifest, service_account
from lepton_operator.desired.pod import encode_template
from lepton_operator.observed import Manifest, Model

PROGRESS_MARGIN = 600
"""Seconds that a pod may take beside loading the model: scheduling, pulling, fetching."""
REVISION_HISTORY = 2


def deployment(model: Model, template: Manifest, inputs: str, replicas: int, in_place: bool) -> Manifest:
    """The Deployment.

    Args:
        template: the pods' template. inputs: hash of what it was made from.
        replicas: pods that shall be.
        in_place: whether a pod ends before its successor starts, since there is no room for both.
    """
    made = manifest(model, "apps/v1", "Deployment", model.metadata.name)
    made["metadata"]["annotations"] = {names.SPEC_HASH: inputs, names.TEMPLATE: encode_template(template)}
    rollout, cache = model.spec.rollout, model.spec.cache
    surge, unavailable = rollout.max_surge, rollout.max_unavailable
    if in_place or (cache is not None and cache.access_mode is AccessMode.READ_WRITE_ONCE):
        surge, unavailable = 0, max(1, unavailable)
    made["spec"] = {
        "replicas": replicas,
        "revisionHistoryLimit": REVISION_HISTORY,
        "progressDeadlineSeconds": model.spec.startup.timeout_seconds + PROGRESS_MARGIN,
        "selector": {"matchLabels": names.pod_selector(model.metadata.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        "template": template,
    }
    return made


def account(model: Model) -> Manifest | None:
    """A ServiceAccount without rights or token; None where the spec names another."""
    if model.spec.pod.service_account_name is not None:
        return None
    made = manifest(model, "v1", "ServiceAccount", service_account(model))
    made["automountServiceAccountToken"] = False
    return made


def disruption_budget(model: Model) -> Manifest:
    """How many pods evictions may take at once. Pods that are not ready serve nobody: they may always go."""
    made = manifest(model, "policy/v1", "PodDisruptionBudget", model.metadata.name)
    made["spec"] = {
        "maxUnavailable": model.spec.disruption.max_unavailable,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": names.pod_selector(model.metadata.name)},
    }
    return made


def pod_monitor(model: Model) -> Manifest:
    """What tells a Prometheus operator to read the pods' metrics."""
    made = manifest(model, "monitoring.coreos.com/v1", "PodMonitor", model.metadata.name)
    made["spec"] = {
        "selector": {"matchLabels": names.pod_selector(model.metadata.name)},
        "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics"}],
        "podTargetLabels": [names.MODEL],
    }
    return made
