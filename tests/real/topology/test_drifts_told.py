"""Drift as the service tells it: at once, with who and what, healed where that is wanted, and never
about what Meshbus did itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.chassis.bus.reading import OrderedReader
from services.topology.adapters.feeds import last_sequence
from services.topology.feed import deltas
from services.topology.feed.deltas import Stage, Topic
from tests.testbed.bodies import PURGE
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import DISTRIBUTIONS
from tests.testbed.seeing import Follower, Seeing
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus

SPACE = "default"


def _config_map(name: str, mode: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": SPACE, "annotations": {"meshbus.io/drift": mode}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _drift(follower: Follower, name: str) -> dict[str, Any] | None:
    found = (item for item in follower.drift.values() if item["object"]["name"] == name)
    return next(found, None)


async def _edited(cluster: Cluster, name: str, **data: str) -> None:
    patch = json.dumps({"data": data})
    await asyncio.to_thread(
        cluster.kubectl, "patch", "configmap", name, "-n", SPACE, "--type=merge", f"--patch={patch}"
    )


async def test_an_edit_is_told_until_it_is_undone(
    seen: Seeing, token: str, cluster: Cluster, topology_meshery: Meshery
) -> None:
    body = json.dumps(_config_map("edited", "report", colour="green"))
    await topology_meshery.run("custom", body=body)
    async with seen.following(token) as follower:
        await follower.until(lambda f: f.info)
        await _edited(cluster, "edited", colour="vermilion")
        told = await follower.until(lambda f: _drift(f, "edited"))
        assert (told["kind"], told["manager"]) == ("changed", "kubectl-patch")
        assert [change["path"] for change in told["changes"]] == ["data.colour"]
        assert (await seen.ask("drift", cluster=token))["drift"] == [told]
        await _edited(cluster, "edited", colour="green")
        await follower.until(lambda f: not _drift(f, "edited"))
        # What it holds may be a secret.
        assert not any("vermilion" in json.dumps(data) for _, data in follower.events)
        await topology_meshery.run("custom", body=body, delete=True)


async def test_what_is_to_be_healed_is_put_back(
    seen: Seeing, token: str, cluster: Cluster, topology_meshery: Meshery
) -> None:
    body = json.dumps(_config_map("healed", "heal", colour="green"))
    await topology_meshery.run("custom", body=body)
    async with seen.following(token) as follower:
        await follower.until(lambda f: f.info)
        await _edited(cluster, "healed", colour="red")
        await follower.until(lambda f: _drift(f, "healed"))
        await follower.until(lambda f: not _drift(f, "healed"))
        colour = cluster.kubectl(
            "get", "configmap", "healed", "-n", SPACE, "-o", "jsonpath={.data.colour}"
        )
        assert colour == "green"
        await topology_meshery.run("custom", body=body, delete=True)
        assert not _drift(follower, "healed")


async def test_a_person_heals_what_is_only_reported(
    seen: Seeing, token: str, cluster: Cluster, topology_meshery: Meshery
) -> None:
    body = json.dumps(_config_map("asked", "report", colour="green"))
    await topology_meshery.run("custom", body=body)
    async with seen.following(token) as follower:
        await follower.until(lambda f: f.info)
        await asyncio.to_thread(cluster.kubectl, "delete", "configmap", "asked", "-n", SPACE)
        told = await follower.until(lambda f: _drift(f, "asked"))
        assert told["kind"] == "deleted"
        assert (await seen.ask("heal", cluster=token, drift=told["id"]))["healing"]
        await follower.until(lambda f: not _drift(f, "asked"))
        assert "asked" in cluster.kubectl("get", "configmap", "-n", SPACE, "-o", "name")
        await topology_meshery.run("custom", body=body, delete=True)


async def test_a_whole_life_of_istio_is_no_drift(
    topology_stack: Stack, token: str, seen: Seeing, topology_meshery: Meshery
) -> None:
    newer, older = sorted(DISTRIBUTIONS, reverse=True)[:2]
    async with admin_bus(topology_stack) as bus:
        before = await last_sequence(bus, token)
    for request in (
        {"version": older},
        {"version": newer},
        {"version": newer},
        {"body": PURGE, "delete": True},
    ):
        final = await topology_meshery.run("istio", **request)
        assert not final.failed, final.event
    assert await seen.is_watched(token)
    assert await _drifts_since(topology_stack, token, before) == []


async def _drifts_since(stack: Stack, cluster: str, start: int) -> list[Any]:
    """Everything that was told about drift after a place in the feed."""
    found: list[Any] = []
    async with admin_bus(stack) as bus:
        last = await last_sequence(bus, cluster)
        assert last > start, "the installation was seen"
        reader = OrderedReader(bus, deltas.STREAM, deltas.every(cluster), start + 1).messages()
        async for message in reader:
            delta = deltas.decoded(message.body, message.headers)
            if (delta.topic, delta.stage) == (Topic.DRIFT, Stage.DELTA):
                found.append(delta.parts)
            if message.sequence >= last:
                break
        await reader.aclose()
    return found
