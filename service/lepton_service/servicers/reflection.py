"""Server reflection, v1 and v1alpha: descriptors of what is served.

The two versions differ in their package's name only, and Python packages have v1alpha alone (grpc#38576). So v1's
descriptors are made from v1alpha's, and both speak v1alpha's messages, which are the same bytes.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2 import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"

Context = grpc.aio.ServicerContext[Any, Any]


def register_v1() -> None:
    """Adds the descriptors of grpc.reflection.v1 to the default pool, so that v1 can be reflected on itself."""
    proto = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(proto)
    proto.name = "grpc/reflection/v1/reflection.proto"
    proto.package = "grpc.reflection.v1"
    for message in proto.message_type:
        for field in message.field:
            if field.type_name:  # setting it makes it present, which only messages' fields may have
                field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    Default().AddSerializedFile(proto.SerializeToString())


class ReflectionServicer:
    """Answers from the default descriptor pool.

    Args:
        services: full names to list.
        closing: set when the server ends its own streams.
    """

    def __init__(self, services: Iterable[str], closing: asyncio.Event) -> None:
        self._services = sorted(services)
        self._closing = closing

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Handlers of both versions, to add to a server."""
        method = grpc.stream_stream_rpc_method_handler(
            self.ServerReflectionInfo,
            request_deserializer=ServerReflectionRequest.FromString,
            response_serializer=ServerReflectionResponse.SerializeToString,
        )
        return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in (ALPHA, V1)]

    async def ServerReflectionInfo(self, requests: object, context: Context) -> None:
        """Answers each request in turn until the client or the server ends the stream."""
        closed = asyncio.ensure_future(self._closing.wait())
        try:
            while True:
                read = asyncio.ensure_future(context.read())
                try:
                    await asyncio.wait({read, closed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not read.done():
                        read.cancel()
                if not read.done() or read.cancelled():
                    return
                request = read.result()
                if request is grpc.aio.EOF:
                    return
                await context.write(self.answer(request))
        finally:
            closed.cancel()

    def answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        """The answer to one request."""
        kind = request.WhichOneof("message_request")
        pool = Default()
        response = ServerReflectionResponse(valid_host=request.host, original_request=request)
        try:
            if kind == "list_services":
                listed = [ServiceResponse(name=name) for name in self._services]
                response.list_services_response.CopyFrom(ListServiceResponse(service=listed))
            elif kind == "file_by_filename":
                response.file_descriptor_response.CopyFrom(_files(pool.FindFileByName(request.file_by_filename)))
            elif kind == "file_containing_symbol":
                response.file_descriptor_response.CopyFrom(_files(_file_of(request.file_containing_symbol)))
            elif kind == "file_containing_extension":
                extension = request.file_containing_extension
                message = pool.FindMessageTypeByName(extension.containing_type)
                found = pool.FindExtensionByNumber(message, extension.extension_number)
                response.file_descriptor_response.CopyFrom(_files(pool.FindFileContainingSymbol(found.full_name)))
            elif kind == "all_extension_numbers_of_type":
                message = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                numbers = sorted(extension.number for extension in pool.FindAllExtensions(message))
                response.all_extension_numbers_response.CopyFrom(
                    ExtensionNumberResponse(base_type_name=message.full_name, extension_number=numbers)
                )
            else:
                response.error_response.CopyFrom(_error(grpc.StatusCode.INVALID_ARGUMENT, "an empty request"))
        except KeyError as error:
            response.error_response.CopyFrom(_error(grpc.StatusCode.NOT_FOUND, str(error).strip("\"'")))
        return response


def _error(code: grpc.StatusCode, message: str) -> ErrorResponse:
    return ErrorResponse(error_code=code.value[0], error_message=message)


def _file_of(symbol: str) -> FileDescriptor:
    """The file of a symbol; the pool knows methods and fields by what holds them only. Raises KeyError."""
    try:
        return Default().FindFileContainingSymbol(symbol)
    except KeyError:
        holder, _, name = symbol.rpartition(".")
        found = Default().FindFileContainingSymbol(holder)
        package = f"{found.package}."
        if not holder.startswith(package):
            raise
        service = found.services_by_name.get(holder.removeprefix(package))
        if service is not None and name in service.methods_by_name:
            return found
        raise


def _files(file: FileDescriptor) -> FileDescriptorResponse:
    """A file and all that it imports, each once, the file itself first."""
    seen: dict[str, FileDescriptor] = {}
    waiting = [file]
    while waiting:
        found = waiting.pop()
        if found.name not in seen:
            seen[found.name] = found
            waiting.extend(found.dependencies)
    return FileDescriptorResponse(file_descriptor_proto=[found.serialized_pb for found in seen.values()])
