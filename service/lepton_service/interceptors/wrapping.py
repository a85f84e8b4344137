"""Putting code around a method's handler, whatever its kind. All handlers of this server are coroutine functions."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Behaviour = Callable[[Any, Any], Awaitable[Any]]


def wrap(handler: grpc.RpcMethodHandler[Any, Any], around: Callable[[Behaviour], Behaviour]) -> Any:
    """The same handler with `around` applied to what it does."""
    make: Callable[..., Any]
    behaviour: Any
    if handler.request_streaming and handler.response_streaming:
        make, behaviour = grpc.stream_stream_rpc_method_handler, handler.stream_stream
    elif handler.response_streaming:
        make, behaviour = grpc.unary_stream_rpc_method_handler, handler.unary_stream
    elif handler.request_streaming:
        make, behaviour = grpc.stream_unary_rpc_method_handler, handler.stream_unary
    else:
        make, behaviour = grpc.unary_unary_rpc_method_handler, handler.unary_unary
    return make(
        around(behaviour),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


class WrappingInterceptor(grpc.aio.ServerInterceptor):
    """Base of the interceptors that do something around every handler."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        return handler and wrap(handler, lambda behaviour: self.around(handler_call_details.method, behaviour))

    @abstractmethod
    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        """What is to run instead of a handler's behaviour; the behaviour itself where the method is of no interest."""
