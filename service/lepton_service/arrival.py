"""What a request for the model brings beside its message: who sends it, under which id, until when."""

import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import grpc

from lepton_service.auth.principal import MAX_NAME_LENGTH, is_name
from lepton_service.calls import current_call
from lepton_service.errors import InvalidFieldError

REQUEST_ID_KEY = "x-request-id"
TENANT_KEY = "x-lepton-tenant"

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Arrival:
    """The circumstances of a call.

    Attributes:
        request_id: the id that the request runs under.
        tenant: whose prefix cache it uses, as the credential says, or, where none is asked for, the metadata; empty
            for the common one.
        deadline: of the call, in `time.monotonic` seconds; None for no deadline.
    """

    request_id: str
    tenant: str
    deadline: float | None

    def ends_by(self, longest: float | None) -> float | None:
        """The deadline of a call that may take `longest` seconds from now at most; None for no bound."""
        if longest is None:
            return self.deadline
        bound = time.monotonic() + longest
        return bound if self.deadline is None else min(bound, self.deadline)


def arrival(request_id: str, context: Context) -> Arrival:
    """Reads a call's metadata and deadline, and tells the access log the request's id.

    Args:
        request_id: the field of the message; where it is empty, the metadata's id is taken, else one is made.

    Raises:
        InvalidFieldError: the id or the tenant cannot be used.
    """
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    given = request_id or metadata.get(REQUEST_ID_KEY, "")
    if given and not _REQUEST_ID.fullmatch(given):
        raise InvalidFieldError("request_id", f"{given[:200]!r} is not 1 to 128 printable ASCII characters")
    found = given or uuid.uuid4().hex
    call = current_call.get()
    if call is not None and call.principal is not None:
        tenant = call.principal.tenant
    else:
        tenant = metadata.get(TENANT_KEY, "")
        if tenant and not is_name(tenant):
            raise InvalidFieldError(
                TENANT_KEY, f"{tenant[:200]!r} is not 1 to {MAX_NAME_LENGTH} printable ASCII characters without spaces"
            )
    if call is not None:
        call.request_id, call.tenant = found, tenant
    remaining = context.time_remaining()
    deadline = None if remaining is None else time.monotonic() + remaining
    return Arrival(found, tenant, deadline)
