"""The calls that every generation may make at any time: no cluster, no worker needed."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from services.chassis.messages import AdvertisedOperation, Category, ServiceCatalog, SlotKind
from services.chassis.messages.models import VERSION
from tests.real.gateway.rig import Rig, eventually
from tests.testbed.generations import Generation

Serving = health_pb2.HealthCheckResponse


@pytest.mark.parametrize("generation", list(Generation))
async def test_every_generation_lists_the_operations_in_one_order(
    rig: Rig, generation: Generation
) -> None:
    async with rig.client(generation) as client:
        answer = await client.call("SupportedOperations")
    assert answer.error == "none"
    if generation in ("A0", "A1"):
        assert set(answer.ops) == {"istio", "bookinfo", "custom"}
    else:
        keys = [(operation.key, operation.category) for operation in answer.ops]
        assert keys == [("istio", 0), ("bookinfo", 1), ("custom", 4)]


@pytest.mark.parametrize("generation", list(Generation))
async def test_every_generation_hears_the_name(rig: Rig, generation: Generation) -> None:
    name = "AdapterName" if generation == "H" else "MeshName"
    async with rig.client(generation) as client:
        assert (await client.call(name)).name == "ISTIO"


@pytest.mark.parametrize("generation", ["C", "F", "G", "H"])
async def test_component_and_versions(rig: Rig, generation: str) -> None:
    async with rig.client(generation) as client:
        component = await client.call("ComponentInfo")
        versions = await client.call("AdapterVersions" if generation == "H" else "MeshVersions")
    assert (component.type, component.name, component.version) == ("adapter", "ISTIO", VERSION)
    assert list(versions.version) == ["1.31.0", "1.30.2"]


async def test_operations_of_a_new_worker_are_known_at_once(rig: Rig) -> None:
    operation = AdvertisedOperation(
        name="apply-smi", description="SMI", category=Category.CONFIGURE, slot=SlotKind.APPLY
    )
    async with rig.client("F") as client:

        async def listed() -> bool:
            answer = await client.call("SupportedOperations")
            return "apply-smi" in [offered.key for offered in answer.ops]

        async def gone() -> bool:
            return not await listed()

        await rig.advertise(ServiceCatalog(service="translator", operations=[operation]))
        await eventually(listed, what="the operation to be listed")
        await rig.bucket("catalog").delete("translator")
        await eventually(gone, what="the operation to be gone")


async def test_reflection_shows_both_services_and_the_contract(rig: Rig) -> None:
    # The reflection client of grpcio is a blocking one; it has its own threads.
    with grpc.insecure_channel(rig.stack.gateway_address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        file = database.FindFileByName("meshops.proto")
    assert {"meshes.MeshService", "meshes.AdapterService", "grpc.health.v1.Health"} <= services
    assert file.package == "meshes"


async def test_health_knows_every_service(rig: Rig) -> None:
    async with grpc.aio.insecure_channel(rig.stack.gateway_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "meshes.MeshService", "meshes.AdapterService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == Serving.SERVING


async def test_calls_are_measured(rig: Rig) -> None:
    async with rig.client("F") as client:
        await client.call("MeshName")
    assert rig.metric('meshbus_rpc_seconds_count{code="OK",method="MeshName"}') >= 1
