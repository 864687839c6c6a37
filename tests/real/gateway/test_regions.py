"""Commands for clusters in regions: whose workers get them, and what is told without workers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.chassis.bus import streams
from services.chassis.bus.records import Records
from services.chassis.bus.streams import Region
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    ClusterRecord,
    ServiceCatalog,
    SlotKind,
)
from tests.real.gateway.rig import Rig, cluster_of, heard, kubeconfig, opened, rigged

LABELS = {
    "east": "{region: east}",
    "west": "{region: west}",
    "cloud": "{topology.kubernetes.io/region: east}",
    "other": "{topology.kubernetes.io/region: eu-west-1}",
    "plain": "{env: prod}",
    "garbage": "[east]",
}


@pytest.fixture(scope="module")
async def regional(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway whose bus knows the region `east`, for lifecycle alone, and `west`."""
    async with rigged(tmp_path_factory.mktemp("regional")) as rig:
        await know_regions(rig)
        for service, kind in (("translator", "translated"), ("perf", "measured")):
            offered = AdvertisedOperation(
                name=kind, description="-", category=Category.CUSTOM, slot=SlotKind.APPLY
            )
            await rig.advertise(ServiceCatalog(service=service, operations=[offered]))
        yield rig


async def know_regions(rig: Rig) -> None:
    waits, regions = timedelta(seconds=30), [Region("east", ("lifecycle",)), Region("west")]
    await streams.reconcile(rig.bus.client, ack_wait=waits, lease_ttl=waits * 2, regions=regions)


def asked(operation: str, *clusters: str, kind: str = "custom") -> dict[str, Any]:
    texts = [kubeconfig(name, labels=LABELS[name]) for name in clusters]
    return {"opName": kind, "operation_id": operation, "kube_configs": texts}


async def test_a_command_waits_where_its_clusters_region_is(regional: Rig) -> None:
    operation = str(uuid.uuid4())
    async with regional.client("F") as client:
        await client.call("ApplyOperation", asked(operation, *LABELS))
        await client.call("ApplyOperation", asked(str(uuid.uuid4()), "east", kind="istio"))
        for kind in ("translated", "measured"):
            both = asked(f"{operation}-{kind}", "east", "west", kind=kind)
            await client.call("ApplyOperation", both)
    east, west = cluster_of("east"), cluster_of("west")
    commands = await regional.commands()
    assert f"cmd.at.east.lifecycle.{east}.mesh" in commands
    assert {subject for subject in commands if operation in subject} == {
        f"cmd.at.east.lifecycle.{east}.apply.{operation}",
        f"cmd.at.east.lifecycle.{cluster_of('cloud')}.apply.{operation}",
        f"cmd.at.west.lifecycle.{west}.apply.{operation}",
        f"cmd.at.west.perf.{west}.apply.{operation}-measured",
        # A region that the bus does not know, and services that have no workers there.
        f"cmd.lifecycle.{cluster_of('other')}.apply.{operation}",
        f"cmd.lifecycle.{cluster_of('plain')}.apply.{operation}",
        f"cmd.lifecycle.{cluster_of('garbage')}.apply.{operation}",
        f"cmd.translator.{east}.apply.{operation}-translated",
        f"cmd.translator.{west}.apply.{operation}-translated",
        f"cmd.perf.{east}.apply.{operation}-measured",
    }
    # What comes of it is lifecycle's, which has workers there.
    for subject, region in (
        (f"cmd.translator.{east}.apply.{operation}-translated", "east"),
        (f"cmd.perf.{east}.apply.{operation}-measured", "east"),
        (f"cmd.at.west.perf.{west}.apply.{operation}-measured", "west"),
    ):
        assert (await regional.stored_command(subject)).region == region


async def test_a_repeat_goes_where_the_first_one_went(regional: Rig) -> None:
    """The cluster moves in between; each subject takes a command of its own."""
    operation = str(uuid.uuid4())
    moved = asked(operation, "east")
    moved["kube_configs"] = [kubeconfig("east", labels="{region: elsewhere}")]
    async with regional.client("F") as client:
        await client.call("ApplyOperation", asked(operation, "east"))
        await client.call("ApplyOperation", moved)
    assert [subject for subject in await regional.commands() if operation in subject] == [
        f"cmd.at.east.lifecycle.{cluster_of('east')}.apply.{operation}"
    ]


async def test_a_region_without_workers_is_named_with_what_to_do(tmp_path: Path) -> None:
    operation = str(uuid.uuid4())
    settings = {"MESHBUS_GATEWAY_OPERATION_DEADLINE": "PT3S"}
    async with rigged(tmp_path, settings) as rig, rig.client("F") as client:
        await know_regions(rig)
        stream = await opened(client)
        await client.call("ApplyOperation", asked(operation, "east", "plain"))
        told = await heard(stream, 4)
        events = {event.cluster: event.error for event in await rig.events_of(operation)}
        assert await rig.commands() == []
    notices = {event.summary for event in told if event.event_type == 1}
    assert len(notices) == 2
    assert any("no lifecycle worker of the region east is connected" in text for text in notices)
    finals = {event.summary: event for event in told if event.event_type == 2}
    assert {event.error_code for event in finals.values()} == {"MB-2007"}
    there, here = events[cluster_of("east")], events[cluster_of("plain")]
    assert there is not None
    assert here is not None
    assert "no lifecycle worker of the region east began" in there.summary
    assert "MESHBUS_REGION=east" in there.remedy
    assert "region" not in here.summary + here.remedy


async def test_the_list_of_clusters_says_who_serves_each(regional: Rig) -> None:
    for name, labels in (("one", {"region": "east"}), ("two", {"region": "north"}), ("three", {})):
        record = ClusterRecord(cluster=name, name=name, server="https://one", labels=labels)
        await Records(regional.bucket("clusters"), ClusterRecord).put(name, record)
    told = (await regional.ask("clusters", {}))["clusters"]
    found = {one["cluster"]: (one["region"], one["served_in"]) for one in told}
    assert found == {"one": ("east", "east"), "two": ("north", ""), "three": ("", "")}


async def test_a_registered_cluster_is_served_in_its_region(regional: Rig) -> None:
    labels = {"region": "east"}
    record = ClusterRecord(cluster="known", name="known", server="https://one", labels=labels)
    await Records(regional.bucket("clusters"), ClusterRecord).put("known", record)
    answer = await regional.ask("apply", {"kind": "custom", "clusters": ["known"], "body": "a: b"})
    subject = f"cmd.at.east.lifecycle.known.apply.{answer['operation']}"
    assert subject in await regional.commands()
