"""All indices together: what is known of a model."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from lepton_operator import names
from lepton_operator.kube.resources import CHILDREN, MODELS, POD_MONITORS, PODS
from lepton_operator.kube.store import ModelKey, Store
from lepton_operator.observed import Child, Model, MountEvent, Object, Pod
from lepton_operator.plan import Observed

_MOUNT_FAILURES = 10_000


class MountFailures:
    """What kubelets said when they could not mount a volume, by pod; the latest only."""

    def __init__(self, pods: Store, changed: Callable[[ModelKey], None]) -> None:
        self._pods, self._changed = pods, changed
        self._messages: OrderedDict[tuple[str, str], str] = OrderedDict()

    def put(self, found: Object) -> None:
        """Takes in an Event."""
        assert isinstance(found, MountEvent)
        key = (found.metadata.namespace, found.involved_object.name)
        if self._messages.get(key) == found.message:
            return
        self._messages[key] = found.message
        while len(self._messages) > _MOUNT_FAILURES:
            self._messages.popitem(last=False)
        pod = self._pods.get(*key)
        if pod is not None:
            self._changed((key[0], pod.metadata.labels.get(names.MODEL, "")))

    def remove(self, found: Object) -> None:
        """Events go when they are old; what they said of a pod ends with the pod."""

    def replace(self, listed: Iterable[Object], namespace: str | None, version: str) -> None:
        """Takes in a list."""
        for found in listed:
            self.put(found)

    def of(self, pods: Iterable[Pod]) -> dict[str, str]:
        """The failures of some pods, by name."""
        found = {pod.metadata.name: self._messages.get(pod.key) for pod in pods}
        return {name: message for name, message in found.items() if message is not None}


class Stores:
    """The indices.

    Args:
        changed: told the model of every object that came, changed or went.
    """

    def __init__(self, changed: Callable[[ModelKey], None]) -> None:
        self.models = Store(changed, models=True)
        self.pods = Store(changed)
        self.children = {resource.kind: Store(changed) for resource in (*CHILDREN, POD_MONITORS)}
        self.mount_failures = MountFailures(self.pods, changed)
        self.by_kind = {MODELS.kind: self.models, PODS.kind: self.pods, **self.children}

    def observed(self, model: Model) -> Observed:
        """All that is known of a model."""
        children: dict[tuple[str, str], Child] = {}
        for kind, store in self.children.items():
            for found in store.of(model.key):
                assert isinstance(found, Child)
                children[kind, found.metadata.name] = found
        pods = [pod for pod in self.pods.of(model.key) if isinstance(pod, Pod)]
        servers = [pod for pod in pods if pod.metadata.labels.get(names.COMPONENT) == names.SERVER]
        fetchers = [pod for pod in pods if pod.metadata.labels.get(names.COMPONENT) == names.FETCH]
        return Observed(model, children, servers, fetchers, self.mount_failures.of(pods))

    def servers(self, model: ModelKey) -> list[Pod]:
        """The pods of a model's servers."""
        pods = [pod for pod in self.pods.of(model) if isinstance(pod, Pod)]
        return [pod for pod in pods if pod.metadata.labels.get(names.COMPONENT) == names.SERVER]
