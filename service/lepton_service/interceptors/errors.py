"""Exceptions to gRPC status with details."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

import logging
from collections.abc import Callable
from typing import Any

import grpc

from lepton_engine.errors import LeptonError
from lepton_service.converters.errors import code_of, pushback, to_status
from lepton_service.errors import ServiceError
from lepton_service.interceptors.wrapping import Behaviour, WrappingInterceptor

DETAILS_KEY = "grpc-status-details-bin"

_log = logging.getLogger("lepton.errors")


class ErrorInterceptor(WrappingInterceptor):
    """Ends a call that raises with the status of its error. Cancellation passes through untouched.

    Args:
        on_error: told of every error, so that the server notices an engine that has ended.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        """See `WrappingInterceptor.around`."""

        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await behaviour(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                self._on_error(error)
                if isinstance(error, grpc.aio.InternalError):
                    _log.debug("the client went while it was written to", exc_info=error)
                elif not isinstance(error, ServiceError | LeptonError):
                    _log.exception("a handler failed")
                status = to_status(error)
                kept = tuple(context.trailing_metadata() or ())
                trailers = (*kept, (DETAILS_KEY, status.SerializeToString()), *pushback(status))
                await context.abort(code_of(status), status.message, trailers)

        return guarded
