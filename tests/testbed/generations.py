"""Each generation of Meshery's contract as its own servers have it, and a client that speaks it.

A test that called the adapter with our own union classes would prove little: the union knows every
field. So each generation is built here from the tables below, in a descriptor pool of its own, and
its client can neither send nor see anything that the servers of that generation could not. The
tables are written from the research and not derived from `proto/meshops.proto`; the tests in
`tests/unit/proto` hold one against the other. (Keeping ten old .proto files was rejected: nine
tenths of their text would be the same.)
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

FILE_NAME = "meshops.proto"
PACKAGE = "meshes"


class Generation(StrEnum):
    """A state of the contract that servers had; the order of the names is that of their time."""

    A0 = "A0"
    A1 = "A1"
    A2 = "A2"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"

    @property
    def service(self) -> str:
        """The full name of the one service that this generation calls."""
        return f"{PACKAGE}.{'AdapterService' if self is Generation.H else 'MeshService'}"

    def within(self, span: str) -> bool:
        """Whether it lies in a span such as "C-G", both ends included."""
        first, last = span.split("-")
        return first <= self.value <= last


# ---- The tables: who had what, from which generation to which ------------------------------------

# Span, name, request, response. In the order of the service's declaration.
_METHODS = (
    ("A0-C", "CreateMeshInstance", "CreateMeshInstanceRequest", "CreateMeshInstanceResponse"),
    ("A0-G", "MeshName", "MeshNameRequest", "MeshNameResponse"),
    ("H-H", "AdapterName", "AdapterNameRequest", "AdapterNameResponse"),
    ("C-G", "MeshVersions", "MeshVersionsRequest", "MeshVersionsResponse"),
    ("H-H", "AdapterVersions", "AdapterVersionsRequest", "AdapterVersionsResponse"),
    ("A0-H", "ApplyOperation", "ApplyRuleRequest", "ApplyRuleResponse"),
    ("A0-H", "SupportedOperations", "SupportedOperationsRequest", "SupportedOperationsResponse"),
    ("A1-H", "StreamEvents", "EventsRequest", "stream EventsResponse"),
    ("B-F", "ProcessOAM", "ProcessOAMRequest", "ProcessOAMResponse"),
    ("G-H", "Provision", "ProvisionRequest", "ProvisionResponse"),
    ("C-H", "ComponentInfo", "ComponentInfoRequest", "ComponentInfoResponse"),
)

# Span and name of a message, then span, number, type and name of each of its fields.
_MESSAGES = """
A0-C CreateMeshInstanceRequest
    A0-C 1 bytes k8sConfig
    A0-C 2 string contextName
A0-C CreateMeshInstanceResponse
A0-G MeshNameRequest
A0-G MeshNameResponse
    A0-G 1 string name
H-H AdapterNameRequest
H-H AdapterNameResponse
    H-H 1 string name
C-G MeshVersionsRequest
C-G MeshVersionsResponse
    C-G 1 repeated string version
H-H AdapterVersionsRequest
H-H AdapterVersionsResponse
    H-H 1 repeated string version
A0-H ApplyRuleRequest
    A0-H 1 string opName
    A0-H 2 string namespace
    A0-H 3 string username
    A0-H 4 string custom_body
    A0-H 5 bool delete_op
    A2-H 6 string operation_id
    D-H 7 repeated string kube_configs
    F-H 8 string version
A0-H ApplyRuleResponse
    A0-H 1 string error
    A2-H 2 string operation_id
A0-H SupportedOperationsRequest
A0-H SupportedOperationsResponse
    A0-A1 1 map<string,string> ops
    A2-H 1 repeated SupportedOperation ops
    A0-H 2 string error
A2-H SupportedOperation
    A2-H 1 string key
    A2-H 2 string value
    A2-H 3 OpCategory category
A1-H EventsRequest
A1-H EventsResponse
    A1-H 1 EventType event_type
    A1-H 2 string summary
    A1-H 3 string details
    A2-H 4 string operation_id
    E-H 5 string probable_cause
    E-H 6 string suggested_remediation
    E-H 7 string error_code
    E-H 8 string component
    E-H 9 string component_name
B-F ProcessOAMRequest
    B-F 1 string username
    B-F 2 bool delete_op
    B-F 3 repeated string oam_comps
    B-F 4 string oam_config
    D-F 7 repeated string kube_configs
B-F ProcessOAMResponse
    B-F 1 string message
G-H ProvisionRequest
    G-H 1 string username
    G-H 2 bool delete_op
    G-H 3 repeated string declarations
    G-H 4 repeated string kube_configs
G-H ProvisionResponse
    G-H 1 string message
C-H ComponentInfoRequest
C-H ComponentInfoResponse
    C-H 1 string type
    C-H 2 string name
    C-H 3 string version
    C-H 4 string git_sha
    C-H 5 map<string,string> properties
"""

# Span, name, values from 0 up.
_ENUMS = (
    ("A2-H", "OpCategory", ("INSTALL", "SAMPLE_APPLICATION", "CONFIGURE", "VALIDATE", "CUSTOM")),
    ("A1-H", "EventType", ("INFO", "WARN", "ERROR")),
)

_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "bool": FieldDescriptorProto.TYPE_BOOL,
}


# ---- From the tables to descriptors --------------------------------------------------------------


def methods_of(generation: Generation) -> tuple[str, ...]:
    """The names of the methods that the generation's service has, in order of declaration."""
    return tuple(name for span, name, *_ in _METHODS if generation.within(span))


def build_file(generation: Generation) -> FileDescriptorProto:
    """The generation's own meshops.proto, as protoc would have parsed it."""
    file = FileDescriptorProto(name=FILE_NAME, package=PACKAGE, syntax="proto3")
    for line in _MESSAGES.strip().splitlines():
        span, *words = line.split()
        if not generation.within(span):
            continue
        if line.startswith(" "):
            _add_field(file.message_type[-1], words)
        else:
            file.message_type.add(name=words[0])
    for span, name, values in _ENUMS:
        if generation.within(span):
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
    service = file.service.add(name=generation.service.removeprefix(f"{PACKAGE}."))
    for span, name, request, response in _METHODS:
        if generation.within(span):
            service.method.add(
                name=name,
                input_type=f".{PACKAGE}.{request}",
                output_type=f".{PACKAGE}.{response.removeprefix('stream ')}",
                server_streaming=response.startswith("stream "),
            )
    return file


def _add_field(message: DescriptorProto, words: list[str]) -> None:
    """Add to `message` the field that a line's words after the span describe."""
    number, *repeated, kind, name = words
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind == "map<string,string>":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, ["1", "string", "key"])
        _add_field(entry, ["2", "string", "value"])
        field.label = field.LABEL_REPEATED
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"
    else:
        is_enum = any(kind == enum for _, enum, _ in _ENUMS)
        field.type = field.TYPE_ENUM if is_enum else field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


@functools.cache
def descriptor_of(generation: Generation) -> FileDescriptor:
    """The generation's contract, alone in a descriptor pool of its own."""
    return DescriptorPool().AddSerializedFile(build_file(generation).SerializeToString())


@functools.cache
def _descriptor_without_maps(generation: Generation) -> FileDescriptor:
    """The same contract with each map declared as what it is on the wire: a list of entries."""
    file = build_file(generation)
    for message in file.message_type:
        for entry in message.nested_type:
            entry.ClearField("options")
    return DescriptorPool().AddSerializedFile(file.SerializeToString())


def message_class(generation: Generation, name: str) -> type[Message]:
    """The class of the message `name` as the generation has it; `KeyError` where it has none."""
    return GetMessageClass(descriptor_of(generation).message_types_by_name[name])


def read_as_go(generation: Generation, name: str, data: bytes) -> Message:
    """Decode a message as the servers of the generation do, which are written in Go.

    They differ in one point. Where a map's entry has more than a key and a value (A0 and A1 meet
    that, see `SupportedOperationsResponse`), Go skips what it does not know (golang/protobuf#561),
    while the decoder under Python sets the whole entry aside (protocolbuffers/upb#544).
    """
    listed = GetMessageClass(_descriptor_without_maps(generation).message_types_by_name[name])
    message = listed.FromString(data)
    message.DiscardUnknownFields()
    return message_class(generation, name).FromString(message.SerializeToString())


# ---- The client ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One call of one generation: its path on the wire, its messages, how an answer is read."""

    path: str
    request: type[Message]
    response: type[Message]
    read: Callable[[bytes], Message]
    streams: bool


@functools.cache
def method(generation: Generation, name: str) -> Method:
    """The generation's method `name`; `LookupError` where it has none."""
    if name not in methods_of(generation):
        raise LookupError(f"generation {generation} has no {name}; it has {methods_of(generation)}")
    (service,) = descriptor_of(generation).services_by_name.values()
    found = service.methods_by_name[name]
    return Method(
        path=f"/{generation.service}/{name}",
        request=GetMessageClass(found.input_type),
        response=GetMessageClass(found.output_type),
        read=functools.partial(read_as_go, generation, found.output_type.name),
        streams=found.server_streaming,
    )


class MessageStream(AsyncIterator[Any]):
    """The answers of a streaming call, under way from construction and not from the first read.

    That is why this is no async generator: a test subscribes first, then causes an event.
    """

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
        self.call = call

    async def __anext__(self) -> Any:
        message = await self.call.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    def cancel(self) -> None:
        """Leave, as a server does whose browser is gone."""
        self.call.cancel()


class GenerationClient:
    """A Meshery server of one generation, as far as the adapter can tell.

    Like the real one it dials lazily, without TLS or metadata, sets no deadline unless told, does
    not wait for a server that is down, and takes answers of 4 MiB at most (gRPC's default).
    Messages are `Any` to the type checker: their classes exist only at run time.
    """

    def __init__(self, generation: Generation | str, target: str) -> None:
        self.generation = Generation(generation)
        # A subchannel pool of its own: no two clients share a connection or its back-off.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.aio.insecure_channel(target, options=options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls still open end as cancelled."""
        await self.channel.close()

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods that can be called."""
        return methods_of(self.generation)

    async def call(
        self,
        name: str,
        fields: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Call a unary method with these fields; its answer, or `grpc.aio.AioRpcError`."""
        found = self._method(name, streams=False)
        unary = self.channel.unary_unary(
            found.path,
            request_serializer=found.request.SerializeToString,
            response_deserializer=found.read,
        )
        return await unary(found.request(**(fields or {})), timeout=timeout_seconds)

    def stream(
        self,
        name: str,
        fields: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> MessageStream:
        """Start a streaming method; its answers as they come. Needs a running event loop."""
        found = self._method(name, streams=True)
        streaming = self.channel.unary_stream(
            found.path,
            request_serializer=found.request.SerializeToString,
            response_deserializer=found.read,
        )
        request = found.request(**(fields or {}))
        return MessageStream(streaming(request, timeout=timeout_seconds))

    def _method(self, name: str, *, streams: bool) -> Method:
        found = method(self.generation, name)
        if found.streams is not streams:
            raise TypeError(f"{name} is for {'stream' if found.streams else 'call'}()")
        return found
