"""Where the fetch Job stands, and what it has reported."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from lepton_operator import names
from lepton_operator.api import Reason
from lepton_operator.desired.weights import needs_job
from lepton_operator.fetch import exits
from lepton_operator.observed import Job, Model, Pod, Terminated

REASONS = {
    exits.UNAUTHORIZED: Reason.SOURCE_UNAUTHORIZED,
    exits.NOT_FOUND: Reason.SOURCE_NOT_FOUND,
    exits.FULL: Reason.CACHE_FULL,
    exits.CHECKSUM: Reason.CHECKSUM_MISMATCH,
}


class Report(msgspec.Struct, frozen=True):
    """What `lepton fetch` says at its end.

    Attributes:
        revision: what the source was found to be. others: folders of other sources beside it. error: what went wrong.
    """

    revision: str = ""
    others: int = 0
    error: str = ""


@dataclass(frozen=True)
class Preload:
    """The state.

    Attributes:
        needed: whether there is a Job at all. done, failed: how it ended.
        reason, message: why it has not, as the last pod said.
        report_text: the report as it came; None when there is none.
    """

    needed: bool
    done: bool = False
    failed: bool = False
    reason: Reason = Reason.PRELOADING
    message: str = ""
    report: Report | None = None
    report_text: str | None = None


def preload(model: Model, job: Job | None, pods: Sequence[Pod]) -> Preload:
    """The state of a model's fetch Job.

    Args:
        pods: the Job's.
    """
    if not needs_job(model):
        return Preload(needed=False, done=True)
    if job is None:
        return Preload(needed=True)
    text, report = _report(job, pods)
    for condition in job.status.conditions:
        if condition.status != "True":
            continue
        if condition.type in ("Complete", "SuccessCriteriaMet"):
            return Preload(True, done=True, report=report, report_text=text)
        if condition.type in ("Failed", "FailureTarget"):
            reason, message = _failure(pods) or (Reason.PRELOAD_FAILED, condition.message)
            return Preload(True, failed=True, reason=reason, message=message)
    found = _failure(pods)
    return Preload(True, reason=found[0] if found else Reason.PRELOADING, message=found[1] if found else "")


def _report(job: Job, pods: Sequence[Pod]) -> tuple[str | None, Report | None]:
    texts = [job.metadata.annotations.get(names.REPORT, "")]
    texts += [state.message for pod in pods if (state := _end(pod)) is not None and state.exit_code == 0]
    for text in texts:
        try:
            return text, msgspec.json.decode(text, type=Report)
        except (msgspec.DecodeError, ValueError):
            continue
    return None, None


def _failure(pods: Sequence[Pod]) -> tuple[Reason, str] | None:
    """Why the latest pod that failed did."""
    for pod in sorted(pods, key=lambda p: p.metadata.creation_timestamp, reverse=True):
        end = _end(pod)
        if end is not None and end.exit_code != 0:
            return REASONS.get(end.exit_code, Reason.PRELOAD_FAILED), _sentence(
                end.message
            ) or f"exit status {end.exit_code}"
    return None


def _sentence(message: str) -> str:
    try:
        return msgspec.json.decode(message, type=Report).error[:1000]
    except (msgspec.DecodeError, ValueError):
        return message.strip()[-1000:]


def _end(pod: Pod) -> Terminated | None:
    for status in pod.status.container_statuses:
        if status.name == "fetch":
            return status.state.terminated or status.last_state.terminated
    return None
