"""Carries out a plan against the API server."""

import logging
from typing import Any

from lepton_operator.api import Reason
from lepton_operator.kube.client import ApiError, Client
from lepton_operator.kube.decode import decode
from lepton_operator.kube.resources import BY_KIND, MODELS
from lepton_operator.observed import Child, Model
from lepton_operator.plan import Action, Annotate, Apply, Delete, Plan
from lepton_operator.status import Outcome
from lepton_operator.stores import Stores

_log = logging.getLogger("lepton.operator.execute")
_REFUSED = (400, 403, 404, 405, 413, 422)
"""Statuses that another try at once does not mend."""
_NOT_TYPED = "failed to create typed patch object"
"""What server-side apply says, with status 500, of a manifest that does not fit the kind's schema."""


class Executor:
    """Writes what plans say, and takes the answers into the indices: the next plan knows of them already."""

    def __init__(self, client: Client, stores: Stores) -> None:
        self._client, self._stores = client, stores

    async def run(self, model: Model, plan: Plan) -> Outcome:
        """Carries out all actions; one that is refused does not keep the others from it.

        Raises:
            ApiError: the server could not be reached, is overloaded, or an object has changed meanwhile: try again.
        """
        conflicts: list[str] = []
        failure: tuple[Reason, str] | None = None
        for action in plan.actions:
            try:
                conflict = await self._act(model, action)
            except ApiError as error:
                if error.status not in _REFUSED and _NOT_TYPED not in error.message:
                    raise
                failure = failure or refusal(error)
                continue
            if conflict:
                conflicts.append(conflict)
        return Outcome(tuple(conflicts), failure)

    async def _act(self, model: Model, action: Action) -> str | None:
        match action:
            case Apply():
                return await self._apply(model, action)
            case Delete():
                if action.former:
                    await self._confirm(model)
                await self._delete(action)
            case Annotate():
                await self._annotate(action)
        return None

    async def _apply(self, model: Model, action: Apply) -> str | None:
        """Applies a manifest; the name of a stranger that stands in its place."""
        resource = BY_KIND[action.kind]
        metadata = action.manifest["metadata"]
        live = action.live
        if live is None:
            # Objects without our labels are in no index.
            live = await self._find(action.kind, metadata["namespace"], metadata["name"])
            former = live is not None and live.formerly_owned_by(model)
            if live is not None and not former and not live.owned_by(model.metadata.uid):
                return f"{action.kind} {metadata['name']}"
            if live is not None and (former or live.metadata.deletion_timestamp is not None):
                raise ApiError(409, "AlreadyExists", f"{action.kind} {metadata['name']} is being deleted")
        manifest = action.manifest
        if live is not None:
            manifest = {**manifest, "metadata": {**metadata, "uid": live.metadata.uid}}
        if action.kind == "Deployment" and model.spec.model.source.oci is not None:
            await self._check_image_volume(manifest, force=live is not None)
        # Without force the apply of what must not exist yet fails, should a stranger have come between.
        answer = await self._client.apply(resource, manifest, force=live is not None)
        self._stores.by_kind[action.kind].put(decode(resource.decoded, answer))
        verb = "created" if live is None else "updated"
        _log.info(verb, extra={"kind": action.kind, "model": "/".join(model.key), "object": metadata["name"]})
        return None

    async def _check_image_volume(self, manifest: dict[str, Any], *, force: bool) -> None:
        """An API server without the feature ImageVolume drops the field silently: a dry run shows it."""
        answer = await self._client.apply(BY_KIND["Deployment"], manifest, force=force, dryRun="All")
        if b'"image":{' not in answer.replace(b" ", b""):
            message = "the cluster has no image volumes (feature ImageVolume)"
            raise ApiError(422, Reason.IMAGE_VOLUME_UNSUPPORTED.value, message)

    async def _find(self, kind: str, namespace: str, name: str) -> Child | None:
        resource = BY_KIND[kind]
        try:
            # Version 0: from the API server's memory, which spares etcd a thousand questions.
            answer = await self._client.get(resource.path(namespace, name), resourceVersion="0")
            found = decode(resource.decoded, answer)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        assert isinstance(found, Child)
        return found

    async def _confirm(self, model: Model) -> None:
        """Not by the index, which may be old: what belongs to another uid may be the new model's, and ours the former.

        Raises:
            ApiError: this model is no more.
        """
        found = decode(MODELS.decoded, await self._client.get(MODELS.path(*model.key)))
        if found.metadata.uid != model.metadata.uid:
            raise ApiError(409, "Conflict", f"model {model.metadata.name} was made anew meanwhile")

    async def _delete(self, action: Delete) -> None:
        metadata = action.target.metadata
        try:
            await self._client.delete(BY_KIND[action.kind].path(metadata.namespace, metadata.name), metadata.uid)
        except ApiError as error:
            if error.status not in (404, 409):  # Gone, or another one already.
                raise
        _log.info("deleted", extra={"kind": action.kind, "object": f"{metadata.namespace}/{metadata.name}"})

    async def _annotate(self, action: Annotate) -> None:
        metadata, resource = action.target.metadata, BY_KIND[action.kind]
        patch = {"metadata": {"uid": metadata.uid, "annotations": dict(action.annotations)}}
        try:
            answer = await self._client.merge(resource.path(metadata.namespace, metadata.name), patch)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return
        if isinstance(action.target, Child):  # A pod's mark has to be seen by the watch, as controllers see it.
            self._stores.by_kind[action.kind].put(decode(resource.decoded, answer))


def refusal(error: ApiError) -> tuple[Reason, str]:
    """A refusal of the API server as a condition's reason and message."""
    if error.reason == Reason.IMAGE_VOLUME_UNSUPPORTED.value:
        return Reason.IMAGE_VOLUME_UNSUPPORTED, error.message
    if "NamespaceTerminating" in error.causes or "being terminated" in error.message:
        return Reason.NAMESPACE_TERMINATING, error.message
    if "exceeded quota" in error.message:
        return Reason.QUOTA_EXCEEDED, error.message
    return Reason.APPLY_FAILED, error.message
