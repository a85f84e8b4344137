"""Statuses of calls to HTTP statuses and OpenAI's error bodies."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from lepton_service.auth.errors import CHALLENGE_KEY
from lepton_service.converters.durations import seconds

_HTTP = {
    StatusCode.CANCELLED: 503,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 400,  # a field that is not supported: the same request will never succeed here
    StatusCode.UNAVAILABLE: 503,
    StatusCode.UNAUTHENTICATED: 401,
}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "unavailable_error",
    504: "timeout_error",
}

Rename = Callable[[str], str]


@dataclass
class HTTPError(Exception):
    """A refusal in HTTP's terms.

    Attributes:
        status: of HTTP. message: one sentence for a person.
        param: the field of the body at fault. code: a word for programs.
        retry_after: seconds after which the same request may succeed.
        close: whether the connection is closed, because its body is not read to the end.
        challenge: what a caller without a valid credential is asked for (WWW-Authenticate).
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None
    close: bool = False
    challenge: str = "Bearer"

    def __str__(self) -> str:
        return self.message

    def body(self) -> bytes:
        """OpenAI's error object."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        found = {"content-type": "application/json"}
        if self.retry_after is not None:
            found["retry-after"] = str(max(1, math.ceil(self.retry_after)))
            found["retry-after-ms"] = str(max(1, math.ceil(self.retry_after * 1000)))
        elif self.status == 429:
            found["x-should-retry"] = "false"  # which OpenAI's clients heed: waiting does not help
        if self.status == 401:
            found["www-authenticate"] = self.challenge
        if self.close:
            found["connection"] = "close"
        return found


def invalid(param: str, description: str, code: str = "invalid_value") -> HTTPError:
    """A field whose value is not allowed."""
    return HTTPError(400, f"{param}: {description}", param, code)


def unsupported(param: str, description: str) -> HTTPError:
    """A field of OpenAI's that this server does not have."""
    return HTTPError(400, f"{param}: {description}", param, "unsupported_field")


def from_status(status: Status, rename: Rename = lambda path: path) -> HTTPError:
    """The HTTP form of a call's status.

    Args:
        rename: gives the field of the JSON body for a path of the contract.
    """
    code = next(code for code in StatusCode if code.value[0] == status.code)
    found = HTTPError(_HTTP.get(code, 500), status.message, code=code.name.lower())
    violation: BadRequest.FieldViolation | None = None
    for detail in status.details:
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(info):
            found.code = info.reason.lower()
            found.challenge = info.metadata.get(CHALLENGE_KEY, found.challenge)
        elif detail.Unpack(bad) and bad.field_violations:
            violation = bad.field_violations[0]
        elif detail.Unpack(retry):
            found.retry_after = seconds(retry.retry_delay)
    if violation is not None:
        found.param = rename(violation.field)
        found.message = f"{found.param}: {violation.description}"
    return found


_CONTRACT = (
    (re.compile(r"^sampling\."), ""),
    (re.compile(r"^stop\.strings\b"), "stop"),
    (re.compile(r"^stop\.token_ids\b"), "stop_token_ids"),
    (re.compile(r"^stop\.include_in_output$"), "include_stop_str_in_output"),
    (re.compile(r"^stop\."), ""),
    (re.compile(r"^output\."), ""),
    (re.compile(r"^token_ids\.ids\b|^token_ids$|^text$"), "prompt"),
    (re.compile(r"^chat\.template_arguments\b"), "chat_template_kwargs"),
    (re.compile(r"^chat\.tool_choice\b.*$"), "tool_choice"),
    (re.compile(r"^chat\."), ""),
    (re.compile(r"\.arguments_json$"), ".function.arguments"),
    (re.compile(r"^tools\[(\d+)\]\.name$"), r"tools[\1].function.name"),
    (re.compile(r"\.parameters_json_schema\b.*$"), ".function.parameters"),
    (re.compile(r"\.reasoning_text$"), ".reasoning_content"),
    (re.compile(r"^chat$"), "messages"),
)


def json_field(path: str) -> str:
    """The field of a JSON body for a path of the contract."""
    for pattern, name in _CONTRACT:
        path = pattern.sub(name, path)
    return path
