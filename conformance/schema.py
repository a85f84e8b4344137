"""Messages and handlers from a descriptor set: the suites' services have no generated code here."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Handler = Callable[[Any, Any], Awaitable[Any]]


class Schema:
    """The messages and services of one descriptor set."""

    def __init__(self, path: Path) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
            self._pool.Add(file)

    def message(self, name: str) -> Any:
        """The class of a message by its full name."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))

    def handlers(self, service: str, methods: Mapping[str, Handler]) -> Any:
        """The handlers of a service's methods; those that are left out are UNIMPLEMENTED.

        Each is a coroutine function of (request, context), or of (None, context) where requests are streamed: it reads
        and writes streams by its context.
        """
        descriptor = self._pool.FindServiceByName(service)
        made = {}
        for name, behaviour in methods.items():
            method = descriptor.methods_by_name[name]
            request = message_factory.GetMessageClass(method.input_type)
            response = message_factory.GetMessageClass(method.output_type)
            kind = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
            make: Any = getattr(grpc, f"{kind[0]}_{kind[1]}_rpc_method_handler")
            made[name] = make(
                _streamed(behaviour) if method.client_streaming else behaviour,
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(service, made)


def _streamed(behaviour: Handler) -> Handler:
    async def handle(_requests: Any, context: Any) -> Any:
        return await behaviour(None, context)

    return handle
