"""YAML as people read it."""

from collections.abc import Sequence
from typing import Any

import yaml


def dump(documents: Sequence[dict[str, Any]]) -> str:
    """Documents in the order of their keys, without anchors."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=110)
