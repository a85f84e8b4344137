"""The kinds that the operator reads and writes, and where the API has them."""

from dataclasses import dataclass

from lepton_operator import names
from lepton_operator.api import GROUP, PLURAL, VERSION
from lepton_operator.observed import Child, Deployment, Job, Model, MountEvent, Object, Pod


@dataclass(frozen=True)
class Resource:
    """A kind.

    Attributes:
        prefix: path of its group and version. decoded: what its objects are kept as.
        selector: label selector of those that are watched.
    """

    kind: str
    prefix: str
    plural: str
    decoded: type[Object]
    selector: str = names.SELECTOR

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of an object, or of the list of a namespace or of all."""
        parts = [self.prefix]
        parts += ["namespaces", namespace] if namespace else []
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


MODELS = Resource("LeptonModel", f"/apis/{GROUP}/{VERSION}", PLURAL, Model, "")
PODS = Resource("Pod", "/api/v1", "pods", Pod)
LEASES = Resource("Lease", "/apis/coordination.k8s.io/v1", "leases", Object, "")
EVENTS = Resource("Event", "/apis/events.k8s.io/v1", "events", Object, "")
POD_MONITORS = Resource("PodMonitor", "/apis/monitoring.coreos.com/v1", "podmonitors", Child)
MOUNT_EVENTS = Resource("Event", "/api/v1", "events", MountEvent, "")
MOUNT_EVENTS_FIELDS = "involvedObject.kind=Pod,reason=FailedMount"
CHILDREN = (
    Resource("Deployment", "/apis/apps/v1", "deployments", Deployment),
    Resource("Service", "/api/v1", "services", Child),
    Resource("ServiceAccount", "/api/v1", "serviceaccounts", Child),
    Resource("PersistentVolumeClaim", "/api/v1", "persistentvolumeclaims", Child),
    Resource("PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets", Child),
    Resource("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies", Child),
    Resource("Job", "/apis/batch/v1", "jobs", Job),
)
BY_KIND = {resource.kind: resource for resource in (MODELS, PODS, LEASES, EVENTS, POD_MONITORS, *CHILDREN)}
