"""All objects of a cluster, of whatever kind it serves."""

from collections.abc import Iterator

from tests.cluster.api import Api, ApiError, Object

# Notes of what happened, what the cluster writes by itself, and views of other kinds.
PASSING = {"events", "endpoints", "endpointslices", "componentstatuses", "apiservices"}


def everything(api: Api) -> set[str]:
    """`Kind/name` or `Kind/namespace/name` of every object."""
    return {name for path, kind in collections(api) for name in names(api, path, kind)}


def collections(api: Api) -> Iterator[tuple[str, str]]:
    """The paths of all that can be listed, each with its kind; a group by its preferred version."""
    groups = api.call("GET", "/apis")["groups"]
    for path in ("/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)):
        for resource in answer(api, path).get("resources", []):
            if "list" in resource["verbs"] and resource["name"] not in PASSING:
                yield f"{path}/{resource['name']}", resource["kind"]


def names(api: Api, path: str, kind: str) -> Iterator[str]:
    for item in answer(api, path).get("items", []):
        where = item["metadata"].get("namespace")
        yield "/".join([kind, *([where] if where else []), item["metadata"]["name"]])


def answer(api: Api, path: str) -> Object:
    """What is there; nothing where a kind has just gone."""
    try:
        return api.call("GET", path)
    except ApiError as error:
        if error.status not in (404, 429):
            raise
        return {}
