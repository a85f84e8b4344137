"""The operator's rights: each is used, and none is missing."""

from tests.e2e.rights import granted, rules_of, use
from tests.e2e.world import ACCOUNT, HOME, World


def test_no_right_is_missing(world: World) -> None:
    (account,) = {pod["spec"]["serviceAccountName"] for pod in world.operators()}
    found = use(world.cluster.plane.audit_log, [f"{ACCOUNT}{account}"])
    unused = granted(rules_of(world.api, account, HOME)) - found.used
    world.figures.add("rights that the operator asked for and lacked", str(len(found.forbidden)), "0")
    world.figures.add("rights that the scenarios did not use", ", ".join(map(str, sorted(unused))) or "none")
    assert not found.forbidden, sorted(map(str, found.forbidden))
    assert found.used, "the audit log has the operator's reads and writes"
