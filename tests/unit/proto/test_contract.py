"""The union contract against each generation's own: same shapes, same paths, same bytes."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from proto import generate, meshops_pb2
from tests.testbed.generations import (
    Generation,
    GenerationClient,
    Method,
    build_file,
    descriptor_of,
    message_class,
    method,
    methods_of,
    read_as_go,
)

UNION = meshops_pb2.DESCRIPTOR
# The type stubs know two unrelated classes for each kind of descriptor, so here they are `Any`.
AnyField = Any
AnyDescriptor = Any

# The one field whose type ever changed; what it changed to reads the same bytes.
ONCE_A_MAP = ("SupportedOperationsResponse", "ops")

every_generation = pytest.mark.parametrize("generation", Generation)
every_method = pytest.mark.parametrize(
    ("generation", "name"), [(g, name) for g in Generation for name in methods_of(g)]
)
every_message = pytest.mark.parametrize(
    ("generation", "name"), [(g, m.name) for g in Generation for m in build_file(g).message_type]
)


# ---- Shapes --------------------------------------------------------------------------------------


def type_of(field: AnyField) -> str:
    """A field's type as one reads it in a .proto file, its label included."""
    named = field.message_type or field.enum_type
    kind: str = named.full_name if named else f"scalar {field.type}"
    return f"repeated {kind}" if field.is_repeated else kind


def fields_of(file: FileDescriptor) -> dict[tuple[str, str], tuple[int, str]]:
    """Message and field name to number and type; messages without fields have the field ''."""
    fields = {(message, ""): (0, "") for message in file.message_types_by_name}
    for message, descriptor in file.message_types_by_name.items():
        fields |= {(message, f.name): (f.number, type_of(f)) for f in descriptor.fields}
    return fields


def paths_of(file: FileDescriptor) -> dict[str, tuple[str, str, bool, bool]]:
    """Method path to request, response and who streams."""
    return {
        f"/{service.full_name}/{name}": (
            found.input_type.full_name,
            found.output_type.full_name,
            found.client_streaming,
            found.server_streaming,
        )
        for service in file.services_by_name.values()
        for name, found in service.methods_by_name.items()
    }


def values_of(file: FileDescriptor) -> dict[str, dict[str, int]]:
    """Enum to its values."""
    return {
        name: {value.name: value.number for value in enum.values}
        for name, enum in file.enum_types_by_name.items()
    }


def test_the_descriptor_has_the_name_and_package_that_reflection_must_show() -> None:
    assert (UNION.name, UNION.package) == ("meshops.proto", "meshes")


@every_generation
def test_the_union_has_each_message_and_field_of_a_generation(generation: Generation) -> None:
    union = fields_of(UNION)
    own = fields_of(descriptor_of(generation))
    differing = {field for field, shape in own.items() if union.get(field) != shape}
    assert differing == ({ONCE_A_MAP} if generation in ("A0", "A1") else set())


@every_generation
def test_the_union_has_each_method_of_a_generation(generation: Generation) -> None:
    own = paths_of(descriptor_of(generation))
    assert own.items() <= paths_of(UNION).items()
    assert {path.rsplit("/", 1)[1] for path in own} == set(methods_of(generation))


@every_generation
def test_the_union_has_each_enum_of_a_generation(generation: Generation) -> None:
    assert values_of(descriptor_of(generation)).items() <= values_of(UNION).items()


def test_the_union_has_nothing_that_no_generation_had() -> None:
    files = [descriptor_of(generation) for generation in Generation]
    assert set(fields_of(UNION)) == {field for file in files for field in fields_of(file)}
    assert set(paths_of(UNION)) == {path for file in files for path in paths_of(file)}
    assert set(values_of(UNION)) == {enum for file in files for enum in values_of(file)}


def test_no_number_ever_had_two_meanings() -> None:
    meanings = defaultdict(set)
    for generation in Generation:
        for (message, field), (number, kind) in fields_of(descriptor_of(generation)).items():
            meanings[message, number].add((field, kind))
    conflicts = {place: found for place, found in meanings.items() if len(found) > 1}
    assert conflicts == {
        ("SupportedOperationsResponse", 1): {
            ("ops", "repeated meshes.SupportedOperationsResponse.OpsEntry"),
            ("ops", "repeated meshes.SupportedOperation"),
        }
    }


def test_a_map_entry_is_how_a_supported_operation_begins() -> None:
    message, name = ONCE_A_MAP
    once: AnyDescriptor = message_class(Generation.A0, message).DESCRIPTOR
    operation: AnyDescriptor = UNION.message_types_by_name["SupportedOperation"]
    for field in once.fields_by_name[name].message_type.fields:
        assert operation.fields_by_number[field.number].name == field.name
        assert type_of(operation.fields_by_number[field.number]) == type_of(field)


IN_ALL = "ApplyOperation SupportedOperations"
IN_C_TO_F = f"MeshName MeshVersions {IN_ALL} StreamEvents ProcessOAM ComponentInfo"


@pytest.mark.parametrize(
    ("generations", "methods"),
    [
        ("A0", f"CreateMeshInstance MeshName {IN_ALL}"),
        ("A1 A2", f"CreateMeshInstance MeshName {IN_ALL} StreamEvents"),
        ("B", f"CreateMeshInstance MeshName {IN_ALL} StreamEvents ProcessOAM"),
        ("C", f"CreateMeshInstance {IN_C_TO_F}"),
        ("D E F", IN_C_TO_F),
        ("G", f"MeshName MeshVersions {IN_ALL} StreamEvents Provision ComponentInfo"),
        ("H", f"AdapterName AdapterVersions {IN_ALL} StreamEvents Provision ComponentInfo"),
    ],
)
def test_a_generation_has_its_methods_in_order(generations: str, methods: str) -> None:
    for generation in generations.split():
        assert methods_of(Generation(generation)) == tuple(methods.split())


def test_a_generation_refuses_a_method_that_it_lacks() -> None:
    with pytest.raises(LookupError, match="generation F has no Provision"):
        method(Generation.F, "Provision")


# ---- Bytes ---------------------------------------------------------------------------------------


def union_class(name: str) -> type[Message]:
    """The union's class of a message."""
    return GetMessageClass(UNION.message_types_by_name[name])


def is_map(field: AnyField) -> bool:
    """Whether a field is declared as a map."""
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def filled(message: Message) -> Message:
    """The message with a telling value, never the default, in each field."""
    for field in message.DESCRIPTOR.fields:
        if is_map(field):
            getattr(message, field.name).update({"first": "one ü", "second": "two"})
        elif field.is_repeated and field.message_type:
            for key in ("first", "second"):
                filled(getattr(message, field.name).add()).key = key  # type: ignore[attr-defined]
        elif field.is_repeated:
            getattr(message, field.name).extend([value_for(field), "", "last"])
        else:
            setattr(message, field.name, value_for(field))
    return message


def value_for(field: AnyField) -> Any:
    """A value that tells the field from every other."""
    if field.enum_type:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"\x00\xff" + field.name.encode()
    return f"{field.name} ü \N{SNOWMAN}\n"


def plain(message: Message, known: AnyDescriptor) -> dict[str, Any]:
    """A message's values in the fields of `known`; maps and lists of messages sorted by key."""
    values: dict[str, Any] = {}
    for like in known.fields:
        value = getattr(message, like.name)
        if is_map(message.DESCRIPTOR.fields_by_name[like.name]):
            values[like.name] = [{"key": key, "value": value[key]} for key in sorted(value)]
        elif like.message_type:
            items = (plain(item, like.message_type) for item in value)
            values[like.name] = sorted(items, key=lambda item: str(item["key"]))
        else:
            values[like.name] = list(value) if like.is_repeated else value
    return values


@every_message
def test_the_union_reads_what_a_generation_writes(generation: Generation, name: str) -> None:
    sent = filled(message_class(generation, name)())
    received = union_class(name).FromString(sent.SerializeToString())
    assert plain(received, sent.DESCRIPTOR) == plain(sent, sent.DESCRIPTOR)
    assert {field.name for field, _ in received.ListFields()} == set(sent.DESCRIPTOR.fields_by_name)


@every_message
def test_a_generation_reads_what_the_union_writes(generation: Generation, name: str) -> None:
    sent = filled(union_class(name)())
    received = read_as_go(generation, name, sent.SerializeToString())
    assert plain(received, received.DESCRIPTOR) == plain(sent, received.DESCRIPTOR)
    assert len(received.ListFields()) == len(received.DESCRIPTOR.fields)


def test_the_first_generation_reads_operations_as_a_map_and_skips_their_category() -> None:
    sent = meshops_pb2.SupportedOperationsResponse(
        ops=[
            meshops_pb2.SupportedOperation(
                key="istio", value="Istio Service Mesh", category=meshops_pb2.INSTALL
            ),
            meshops_pb2.SupportedOperation(
                key="custom", value="Custom", category=meshops_pb2.CUSTOM
            ),
        ],
        error="none",
    )
    data = sent.SerializeToString()
    received: Any = read_as_go(Generation.A0, "SupportedOperationsResponse", data)
    assert dict(received.ops) == {"istio": "Istio Service Mesh", "custom": "Custom"}
    assert received.error == "none"


def test_the_union_reads_a_map_of_operations_as_a_list_without_categories() -> None:
    first: Any = message_class(Generation.A0, "SupportedOperationsResponse")
    sent = first(ops={"istio": "Istio Service Mesh"}, error="none")
    received = meshops_pb2.SupportedOperationsResponse.FromString(sent.SerializeToString())
    assert list(received.ops) == [
        meshops_pb2.SupportedOperation(key="istio", value="Istio Service Mesh", category="INSTALL")
    ]


# ---- The generated code --------------------------------------------------------------------------


def test_the_committed_code_is_fresh() -> None:
    assert generate.stale_outputs() == []


def test_the_check_tells_stale_and_missing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*generate.SOURCES, generate.OUTPUTS[0], generate.OUTPUTS[2]):
        (tmp_path / name).write_bytes((generate.FOLDER / name).read_bytes() + b"\n// changed")
    assert generate.stale_outputs(tmp_path) == list(generate.OUTPUTS)
    monkeypatch.setattr(generate, "stale_outputs", lambda: ["meshops_pb2.py"])
    assert generate.main(["--check"]) == 1
    assert "stale: meshops_pb2.py" in capsys.readouterr().err


def test_the_check_passes_as_a_command_from_the_repository_root() -> None:
    command = [sys.executable, "-m", "proto.generate", "--check"]
    assert subprocess.run(command, cwd=generate.FOLDER.parent, check=False).returncode == 0


# ---- The clients, against a real gRPC server that serves the union -------------------------------


def echo_handler(found: Method) -> grpc.RpcMethodHandler[Any, Any]:
    """Answers with a filled message of the union, whatever comes in, if what came is filled."""
    name = found.response.DESCRIPTOR.name

    async def answer(request: Message, _: Any) -> Message:
        assert len(request.ListFields()) >= len(found.request.DESCRIPTOR.fields)
        return filled(union_class(name)())

    async def stream(request: Message, _: Any) -> AsyncIterator[Message]:
        yield filled(union_class(name)())
        yield union_class(name)()

    coders: dict[str, Any] = {
        "request_deserializer": union_class(found.request.DESCRIPTOR.name).FromString,
        "response_serializer": union_class(name).SerializeToString,
    }
    if found.streams:
        return grpc.unary_stream_rpc_method_handler(stream, **coders)
    return grpc.unary_unary_rpc_method_handler(answer, **coders)


@pytest.mark.asyncio
@every_method
async def test_a_client_calls_each_method_of_its_generation(
    generation: Generation, name: str
) -> None:
    found = method(generation, name)
    server = grpc.aio.server()
    handlers = grpc.method_handlers_generic_handler(generation.service, {name: echo_handler(found)})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with GenerationClient(generation, f"127.0.0.1:{port}") as client:
            if found.streams:
                answers = [m async for m in client.stream(name, timeout_seconds=20)]
                assert len(answers) == 2
                answer = answers[0]
            else:
                request = filled(found.request())
                fields = {f.name: value for f, value in request.ListFields()}
                answer = await client.call(name, fields, timeout_seconds=20)
            assert isinstance(answer, found.response)
            assert len(answer.ListFields()) == len(found.response.DESCRIPTOR.fields)
    finally:
        await server.stop(grace=None)


@pytest.mark.asyncio
async def test_a_client_takes_a_method_only_by_its_own_kind() -> None:
    async with GenerationClient("G", "127.0.0.1:1") as client:
        with pytest.raises(TypeError, match=r"StreamEvents is for stream\(\)"):
            await client.call("StreamEvents")
        with pytest.raises(TypeError, match=r"MeshName is for call\(\)"):
            client.stream("MeshName")
        with pytest.raises(ValueError, match="no_such_field"):
            await client.call("MeshName", {"no_such_field": 1})
