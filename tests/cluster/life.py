"""A scripted life of many models: created, changed, scaled, stopped, deleted, made anew, and meddled with."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.cluster.api import Api, ApiError, Object
from tests.cluster.models import model


@dataclass(frozen=True)
class Step:
    """One thing that happens. `do` may be repeated until it works."""

    what: str
    do: Callable[[Api, str], object]


def script(count: int, seed: int) -> list[Step]:
    """The steps for so many models, always the same for a seed, in an order that keeps each model's own."""
    lives = [_life(f"m{i:02}", i) for i in range(count)]
    chance = random.Random(seed)
    steps: list[Step] = []
    while lives:
        life = chance.choice(lives)
        step = next(life, None)
        if step is None:
            lives.remove(life)
        else:
            steps.append(step)
    return steps


def _life(name: str, index: int) -> Iterator[Step]:
    """Every kind of model that a Deployment alone can show, a fifth of each."""
    kind = index % 5
    body = model(name, replicas=1 + index % 2, networkPolicy={"enabled": kind == 0})
    yield Step(f"create {name}", lambda api, ns: _create(api, ns, body))
    yield Step(f"change {name}", lambda api, ns: _spec(api, ns, name, {"drain": {"timeoutSeconds": 30 + index}}))
    if kind == 0:
        yield Step(f"open {name}", lambda api, ns: _spec(api, ns, name, {"networkPolicy": {"enabled": False}}))
    elif kind == 1:
        yield Step(f"scale {name}", lambda api, ns: _spec(api, ns, name, {"replicas": 3}))
        yield Step(f"scale {name} down", lambda api, ns: _spec(api, ns, name, {"replicas": 2}))
    elif kind == 2:
        yield Step(f"stop {name}", lambda api, ns: _spec(api, ns, name, {"replicas": 0}))
    elif kind == 3:
        yield Step(f"delete {name}", lambda api, ns: _gone(lambda: api.delete("LeptonModel", name, ns)))
        again = model(name, replicas=2, server={"args": ["--max-model-len=1024"]})
        yield Step(f"create {name} anew", lambda api, ns: _create(api, ns, again))
    else:
        yield Step(f"meddle with {name}", lambda api, ns: _gone(lambda: api.delete("Service", name, ns)))
        meddled = {"spec": {"maxUnavailable": 7}}
        yield Step(f"edit {name}", lambda api, ns: _gone(lambda: api.patch("PodDisruptionBudget", name, meddled, ns)))
    if index % 10 == 6:
        yield Step(f"end {name}", lambda api, ns: _gone(lambda: api.delete("LeptonModel", name, ns)))


def live(api: Api, namespace: str, steps: list[Step], seconds: float) -> None:
    """Carry the steps out, evenly over this time; a step that the API server cannot take now is tried again."""
    begin = time.monotonic()
    for number, step in enumerate(steps):
        time.sleep(max(0.0, begin + seconds * number / len(steps) - time.monotonic()))
        for attempt in range(200):
            try:
                step.do(api, namespace)
                break
            except (ApiError, OSError) as error:
                if isinstance(error, ApiError) and error.status < 429:
                    raise AssertionError(f"{step.what}: {error}") from error
                if attempt == 199:
                    raise
                time.sleep(0.1)  # The API server is being restarted.


def in_parallel(work: list[Callable[[], object]], threads: int = 8) -> None:
    """Do all of it, some at a time. Raises: the first error."""
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(part) for part in work]:
            done.result()


def _create(api: Api, namespace: str, body: Object) -> None:
    try:
        api.create(body, namespace)
    except ApiError as error:
        if error.status != 409:  # Made already, by an attempt whose answer was lost.
            raise


def _spec(api: Api, namespace: str, name: str, change: Object) -> None:
    api.patch("LeptonModel", name, {"spec": change}, namespace)


def _gone(do: Callable[[], object]) -> None:
    """Something that may not be there yet, or any more: whatever was, the end is the same."""
    try:
        do()
    except ApiError as error:
        if error.status not in (404, 409):
            raise
