"""Putting code around a method's handler, whatever its kind. All handlers of this server are coroutine functions."""

from __future__ import annotations  # grpc's handler classes take type arguments in their stubs only

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
