"""Nothing is served to a caller who may not call, health aside. Unknown methods are not told from known ones."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from lepton_service.auth.authenticator import Authenticator
from lepton_service.auth.errors import AuthenticationError, TenantNotAllowedError
from lepton_service.auth.principal import CertificateNames, Principal
from lepton_service.calls import current_call
from lepton_service.interceptors.wrapping import Behaviour, wrap

AUTHORIZATION_KEY = "authorization"
TENANT_KEY = "x-lepton-tenant"
OPEN = "/grpc.health.v1.Health/"

_log = logging.getLogger("lepton.auth")

Metadata = Iterable[tuple[str, str | bytes]]


class AuthenticationInterceptor(grpc.aio.ServerInterceptor):
    """Puts the principal on the current call, or ends the call.

    Goes inside the error interceptor, which gives a refusal its status.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's handler, or puts one that refuses in its place."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if method.startswith(OPEN):
            return handler
        metadata = tuple(handler_call_details.invocation_metadata or ())
        principal: Principal | None = None
        if not self._authenticator.reads_certificate:
            try:
                principal = self.identify(metadata, None)
            except AuthenticationError as error:
                return _refusing(method, error)

        def around(behaviour: Behaviour) -> Behaviour:
            async def authenticated(request: Any, context: Any) -> Any:
                found = principal
                if found is None:
                    try:
                        found = self.identify(metadata, CertificateNames.from_auth_context(context.auth_context()))
                    except AuthenticationError as error:
                        _tell(method, context, error)
                        raise
                call = current_call.get()
                if call is not None:
                    call.principal, call.tenant = found, found.tenant
                return await behaviour(request, context)

            return authenticated

        return wrap(handler or grpc.stream_stream_rpc_method_handler(_unknown), around)

    def identify(self, metadata: Metadata, certificate: CertificateNames | None) -> Principal:
        """Who sends this metadata.

        Raises:
            AuthenticationError: nobody who may call, or not for the tenant that it names.
        """
        principal = self._authenticator.authenticate(authorization(metadata), certificate)
        for key, value in metadata:
            if key == TENANT_KEY and value != principal.tenant:
                raise TenantNotAllowedError(
                    f"{TENANT_KEY}: the credential is of another tenant",
                    f"{principal.subject} of {principal.tenant} asks for tenant {str(value)[:100]!r}",
                )
        return principal


def authorization(metadata: Metadata) -> str | None:
    """The `authorization` of a call; several of them are one that no scheme accepts."""
    found = [value for key, value in metadata if key == AUTHORIZATION_KEY and isinstance(value, str)]
    return ", ".join(found) if found else None


def _refusing(method: str, error: AuthenticationError) -> Any:
    """A handler that refuses without reading the message."""

    async def refuse(request: Any, context: Any) -> None:
        _tell(method, context, error)
        raise error

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _unknown(request: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _tell(method: str, context: Any, error: AuthenticationError) -> None:
    _log.info("refused %s from %s: %s", method[:200], context.peer(), error.cause)
