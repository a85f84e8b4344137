"""Settings of the operator: what its command line says."""

from dataclasses import dataclass, field

VERSION = "0.1.0"


@dataclass(frozen=True)
class PodSettings:
    """What the operator decides of the pods where the spec says nothing.

    Attributes:
        server_image: image of the server.
        default_args: arguments of `lepton serve` before those of the spec.
        operator_namespace: where the operator runs; its pods may reach the control port.
        operator_labels: labels of its pods.
        cluster_domain: suffix of Service names in `status.endpoint`; empty for the short form.
    """

    server_image: str = f"lepton/server:{VERSION}"
    default_args: tuple[str, ...] = ()
    operator_namespace: str = "lepton-system"
    operator_labels: dict[str, str] = field(default_factory=lambda: {"app.kubernetes.io/name": "lepton-operator"})
    cluster_domain: str = ""


REQUEST_TIMEOUT = 5.0
"""Seconds that a request to the API server may take."""


@dataclass(frozen=True)
class LeaseSettings:
    """Leader election. Times in seconds.

    Attributes:
        duration: others take the Lease over when it was not renewed for this long.
        renew_deadline: the leader ends itself when it could not renew for this long.
        retry_period: between two tries.
    """

    name: str = "lepton-operator"
    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def check(self) -> None:
        """Raises ValueError for times that do not go together."""
        if not self.retry_period < self.renew_deadline < self.duration:
            raise ValueError(
                f"lease times must rise: retry period {self.retry_period:g} < renew deadline {self.renew_deadline:g} "
                f"< duration {self.duration:g}"
            )
        if self.renew_deadline <= REQUEST_TIMEOUT:
            raise ValueError(
                f"the renew deadline {self.renew_deadline:g} s must exceed a request's timeout, {REQUEST_TIMEOUT:g} s"
            )


@dataclass(frozen=True)
class RunSettings:
    """How the operator runs. Times in seconds.

    Attributes:
        lease: None leads without one.
        namespaces: only these; empty for all.
        workers: models that are reconciled at once.
        resync: every model is looked at this often.
        stats_interval: pods of autoscaled models are asked for their load this often.
        metrics_port: 0 takes a free one.
    """

    pods: PodSettings = field(default_factory=PodSettings)
    lease: LeaseSettings | None = field(default_factory=LeaseSettings)
    identity: str = "lepton-operator"
    namespaces: tuple[str, ...] = ()
    workers: int = 16
    resync: float = 600.0
    stats_interval: float = 1.0
    metrics_host: str = "0.0.0.0"
    metrics_port: int = 9090
