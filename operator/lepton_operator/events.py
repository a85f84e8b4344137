"""Events: what a person reads to see how it came about."""

import logging
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from lepton_operator.api import API_VERSION, KIND, Condition
from lepton_operator.kube.client import ApiError, Client
from lepton_operator.kube.resources import EVENTS
from lepton_operator.observed import Object

_log = logging.getLogger("lepton.operator.events")
_NOTE = 1000
_BAD = ("Degraded",)


class Recorder:
    """Writes Events about models.

    Args:
        identity: this process.
    """

    def __init__(self, client: Client, identity: str) -> None:
        self._client = client
        self._identity = identity

    async def transition(self, model: Object, condition: Condition) -> None:
        """A condition's status or reason is new."""
        warns = (condition.type in _BAD) == (condition.status == "True") and condition.type in _BAD
        note = f"{condition.type} is {condition.status}" + (f": {condition.message}" if condition.message else "")
        await self.record(model, "Warning" if warns else "Normal", condition.reason, f"{condition.type}Changed", note)

    async def record(self, model: Object, kind: str, reason: str, action: str, note: str) -> None:
        """An Event. One that cannot be written is logged: nothing depends on it.

        Args:
            kind: Normal or Warning. reason, action: in CamelCase. note: a sentence.
        """
        metadata = model.metadata
        body: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata.name}.{uuid.uuid4().hex[:16]}", "namespace": metadata.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": kind,
            "reason": reason,
            "action": action,
            "note": note[:_NOTE],
            "reportingController": "lepton.dev/operator",
            "reportingInstance": re.sub(r"[^\w.-]", "-", self._identity)[:128],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
            },
        }
        try:
            await self._client.create(EVENTS.path(metadata.namespace), body)
        except ApiError as error:
            _log.info(
                "event not written", extra={"model": f"{metadata.namespace}/{metadata.name}", "error": str(error)}
            )
