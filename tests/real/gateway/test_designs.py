"""ProcessOAM and Provision: one operation for the translator, and an answer when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import orjson
import pytest

from services.chassis.bus import envelopes
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    Command,
    ErrorReport,
    Event,
    Phase,
    ServiceCatalog,
    Severity,
    SlotKind,
)
from tests.real.gateway.rig import PATIENCE_S, Rig, cluster_of, eventually, kubeconfig

DESIGN = ServiceCatalog(
    service="translator",
    operations=[
        AdvertisedOperation(
            name="design",
            description="Meshery design",
            category=Category.CUSTOM,
            slot=SlotKind.APPLY,
            is_listed=False,
        )
    ],
)
COMPONENT = {
    "kind": "Component",
    "apiVersion": "core.oam.dev/v1alpha2",
    "metadata": {"name": "reviews", "namespace": "shop"},
    "spec": {"type": "VirtualService", "settings": {"hosts": ["reviews"]}},
}
DECLARATION = {
    "schemaVersion": "components.meshery.io/v1beta1",
    "displayName": "reviews",
    "component": {"kind": "VirtualService", "version": "networking.istio.io/v1", "schema": "{}"},
    "model": {
        "name": "istio-base",
        "model": {"version": "1.31.0"},
        "registrant": {"kind": "kubernetes", "metadata": {"client-key-data": "canary-7ab1"}},
    },
    "connection": {"metadata": {"token": "canary-7ab1"}},
    "configuration": {"spec": {"hosts": ["reviews"]}},
}


@pytest.fixture
async def designs(rig: Rig) -> AsyncIterator[Rig]:
    await rig.advertise(DESIGN)
    yield rig
    await rig.bucket("catalog").delete("translator")


@asynccontextmanager
async def called(
    rig: Rig, generation: str, call: str, request: dict[str, Any]
) -> AsyncIterator[asyncio.Task[Any]]:
    """The call under way, with its commands stored."""
    before = len(await rig.commands())
    async with rig.client(generation) as client:
        task = asyncio.create_task(client.call(call, request, timeout_seconds=PATIENCE_S))

        async def stored() -> bool:
            return len(await rig.commands()) >= before + len(request["kube_configs"])

        await eventually(stored, what="the commands to be stored")
        yield task


async def commands_of(rig: Rig) -> list[Command]:
    """The design commands that are queued."""
    context = rig.bus.client.jetstream()
    found = []
    for subject in await rig.commands():
        if subject.startswith("cmd.translator."):
            message = await context.get_last_msg("CMD", subject)
            body, headers = message.data or b"", message.headers
            found.append(envelopes.decode(Command, body, headers, keys=rig.stack.keys))
    return found


async def end(rig: Rig, command: Command, *, lines: str = "", failure: str = "") -> None:
    """What a worker tells at the end."""
    error = ErrorReport(code="MB-3001", summary=failure, cause="away", remedy="wait")
    await rig.publisher.event(
        Event(
            operation=command.operation,
            kind=command.kind,
            service="lifecycle",
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            sequence=9,
            phase=Phase.FAILED if failure else Phase.DONE,
            severity=Severity.ERROR if failure else Severity.INFO,
            summary="Error while deploying the design" if failure else "Design deployed",
            details=f"Error: {failure}." if failure else lines,
            error=error if failure else None,
        )
    )
    await rig.end_part(command.operation, command.cluster)


@pytest.mark.parametrize(
    ("generation", "call", "components"),
    [
        ("F", "ProcessOAM", {"oam_comps": [orjson.dumps(COMPONENT).decode()], "oam_config": "{}"}),
        ("G", "Provision", {"declarations": [orjson.dumps(DECLARATION).decode()]}),
        ("H", "Provision", {"declarations": [orjson.dumps(DECLARATION).decode()]}),
    ],
)
async def test_a_call_answers_with_a_line_for_each_component_and_cluster(
    designs: Rig, generation: str, call: str, components: dict[str, Any]
) -> None:
    clusters = [kubeconfig(f"{call.lower()}-{generation.lower()}-{n}") for n in (1, 2)]
    request = {**components, "kube_configs": clusters, "username": "u"}
    async with called(designs, generation, call, request) as task:
        commands = await commands_of(designs)
        assert {c.cluster for c in commands} == {
            cluster_of(f"{call.lower()}-{generation.lower()}-{n}") for n in (1, 2)
        }
        for command in commands:
            assert "reviews" in command.body
            assert "canary-7ab1" not in command.body
            await end(designs, command, lines="VirtualService shop/reviews deployed successfully")
        answer = await task
    lines = answer.message.splitlines()
    assert len(lines) == 2
    assert all("VirtualService shop/reviews deployed successfully" in line for line in lines)


async def test_a_cluster_that_is_down_is_named_and_the_other_is_done(designs: Rig) -> None:
    request = {
        "oam_comps": [orjson.dumps(COMPONENT).decode()],
        "kube_configs": [kubeconfig("up"), kubeconfig("down")],
    }
    async with called(designs, "F", "ProcessOAM", request) as task:
        for command in await commands_of(designs):
            is_down = command.cluster == cluster_of("down")
            await end(designs, command, lines="all of it", failure="no answer" if is_down else "")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await task
    details = caught.value.details() or ""
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "MB-3001" in details
    assert "up: all of it" in details
    assert "down: Error while deploying the design. Error: no answer." in details


async def test_an_end_that_was_only_recorded_is_found(designs: Rig) -> None:
    """A reconnect may swallow the event; the record is read as well."""
    request = {
        "oam_comps": [orjson.dumps(COMPONENT).decode()],
        "kube_configs": [kubeconfig("recorded")],
    }
    async with called(designs, "F", "ProcessOAM", request) as task:
        [command] = await commands_of(designs)
        await designs.end_part(
            command.operation, command.cluster, summary="VirtualService shop/reviews deployed"
        )
        answer = await task
    assert answer.message == "recorded: VirtualService shop/reviews deployed"


@pytest.mark.parametrize(
    ("generation", "call", "request_fields", "words"),
    [
        ("F", "ProcessOAM", {}, "oam_comps is empty"),
        ("G", "Provision", {}, "declarations is empty"),
        ("F", "ProcessOAM", {"oam_comps": ["no json"]}, "oam_comps[0] is not a JSON object"),
        ("G", "Provision", {"declarations": ["[]"]}, "declarations[0] is not a JSON object"),
    ],
)
async def test_a_call_without_components_is_refused(
    designs: Rig, generation: str, call: str, request_fields: dict[str, Any], words: str
) -> None:
    before = await designs.published()
    request = {**request_fields, "kube_configs": [kubeconfig("refused")]}
    async with designs.client(generation) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call(call, request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")
    assert await designs.published() == before


async def test_a_call_needs_a_cluster(designs: Rig) -> None:
    request = {"oam_comps": [orjson.dumps(COMPONENT).decode()]}
    async with designs.client("F") as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("ProcessOAM", request)
    assert "MB-1003" in (caught.value.details() or "")


async def test_the_design_operation_is_not_listed(designs: Rig) -> None:
    async with designs.client("F") as client:
        answer = await client.call("SupportedOperations")
    assert "design" not in [operation.key for operation in answer.ops]
