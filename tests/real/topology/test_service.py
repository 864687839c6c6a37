"""The topology service on a real cluster: what happens there is told here, at once."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from services.chassis.errors import ClusterNotWatched, HistoryGone, MalformedRequest
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.seeing import Follower, Seeing
from tests.testbed.shops import (
    applied,
    istio_defined,
    listed,
    opened,
    service,
    virtual_service,
    workload,
)
from tests.testbed.waiting import eventually

SPACE = "default"
VIEWS = ("app", "versionedApp", "workload", "service")


async def test_a_service_and_its_workload_come_and_go(
    seen: Seeing, token: str, cluster: Cluster
) -> None:
    async with seen.following(token) as follower:
        with opened(cluster, service("lives", SPACE), *workload("lives", SPACE)):
            [node] = await follower.until(lambda f: f.named(service="lives"))
            assert node["nodeType"] == "service"
            await follower.until(lambda f: f.named(workload="lives", app="lives"))
            # Its pod gets ready, so neither end is dead any more.
            await follower.until(lambda f: _is_alive(f, "lives"))
            await follower.until(lambda f: _is_connected(f, "lives"))
        await follower.until(lambda f: not f.named(service="lives"))
        await follower.until(lambda f: not f.named(workload="lives"))
    assert [name for name, _ in follower.events].count("snapshot") == 1


def _is_alive(follower: Follower, name: str) -> bool:
    found = follower.named(service=name, nodeType="service") + follower.named(workload=name)
    return len(found) > 1 and not any(node.get("isDead") for node in found)


def _is_connected(follower: Follower, name: str) -> bool:
    [source] = follower.named(service=name, nodeType="service")
    [target] = follower.named(workload=name)
    return any(
        edge["source"] == source["id"] and edge["target"] == target["id"]
        for edge in follower.edges.values()
    )


async def test_every_view_is_answered_and_agrees_with_its_stream(
    seen: Seeing, token: str, cluster: Cluster
) -> None:
    with opened(cluster, service("viewed", SPACE), *workload("viewed", SPACE)):
        for view in VIEWS:
            async with seen.following(token, view=view) as follower:
                await follower.until(lambda f: f.named(service="viewed"))
                await follower.until(
                    lambda f: not any(n.get("isDead") for n in f.named(service="viewed"))
                )
                graph = await seen.ask("graph", cluster=token, graphType=view)
            assert graph["graphType"] == view
            ids = {node["data"]["id"] for node in graph["elements"]["nodes"]}
            assert ids == set(follower.nodes)


async def test_kinds_that_come_later_are_watched(
    seen: Seeing, token: str, cluster: Cluster
) -> None:
    async with seen.following(token) as follower:
        kinds = ("VirtualService", "DestinationRule", "Gateway")
        with istio_defined(cluster, kinds):
            with applied(
                cluster, listed(service("routed", SPACE), virtual_service("vs", SPACE, "routed"))
            ):
                [node] = await follower.until(
                    lambda f: [n for n in f.named(service="routed") if n.get("hasVS")]
                )
                [config] = [c for c in node["configs"] if c["kind"] == "VirtualService"]
                assert config["name"] == "vs"
                shown = await seen.ask(
                    "object",
                    cluster=token,
                    kind="networking.istio.io/VirtualService",
                    namespace=SPACE,
                    name="vs",
                )
                assert shown["spec"] == virtual_service("vs", SPACE, "routed")["spec"]
            await follower.until(lambda f: not f.named(service="routed"))


async def test_a_finding_comes_and_goes(seen: Seeing, token: str, cluster: Cluster) -> None:
    async with seen.following(token) as follower:
        with istio_defined(cluster, ("VirtualService", "DestinationRule", "Gateway")):
            with applied(cluster, json.dumps(virtual_service("dangling", SPACE, "nowhere"))):
                finding = await follower.until(lambda f: _finding(f, "IST0101", "dangling"))
                assert finding["path"] == "spec.http[0].route[0].destination.host"
                assert "nowhere" in finding["message"]
                assert finding["remedy"]
                assert finding["codes"] == ["IST0101", "KIA1101"]
                for code in finding["codes"]:
                    answer = await seen.ask("findings", cluster=token, codes=[code])
                    assert [f["object"]["name"] for f in answer["findings"]] == ["dangling"]
                with applied(cluster, json.dumps(service("nowhere", SPACE))):
                    await follower.until(lambda f: not _finding(f, "IST0101", "dangling"))
                await follower.until(lambda f: _finding(f, "IST0101", "dangling"))
            await follower.until(lambda f: not _finding(f, "IST0101", "dangling"))


def _finding(follower: Follower, code: str, name: str) -> dict[str, Any] | None:
    found = (f for f in follower.findings.values() if f["code"] == code)
    return next((f for f in found if f["object"]["name"] == name), None)


async def test_the_past_is_shown(seen: Seeing, token: str, cluster: Cluster) -> None:
    async with seen.following(token) as follower:
        with applied(cluster, json.dumps(service("ephemeral", SPACE))):
            await follower.until(lambda f: f.named(service="ephemeral"))
            moment = datetime.now(timezone.utc).isoformat()
        await follower.until(lambda f: not f.named(service="ephemeral"))
    then = await seen.ask("graph", cluster=token, at=moment)
    now = await seen.ask("graph", cluster=token)
    for graph, count in ((then, 1), (now, 0)):
        nodes = [n["data"] for n in graph["elements"]["nodes"]]
        assert len([n for n in nodes if n.get("service") == "ephemeral"]) == count
    with pytest.raises(HistoryGone):
        await seen.ask("graph", cluster=token, at="2001-01-01T00:00:00Z")


async def test_compliance_is_kept_over_time(seen: Seeing, token: str, cluster: Cluster) -> None:
    def asked(since: datetime, **more: str) -> dict[str, Any]:
        return {"cluster": token, "since": since.isoformat(), "by": "team", **more}

    async def changed(since: datetime) -> set[tuple[str, str, str]]:
        found = (await seen.ask("compliance", **asked(since)))["changes"]
        mine = [one for one in found if one["name"] == "kept"]
        return {(one["became"], one["check"], one["team"]) for one in mine}

    async def is_told(since: datetime, became: str) -> bool:
        return (became, "mesh", "keepers") in await changed(since)

    async def is_kept() -> bool:
        found = await seen.ask("compliance", **asked(datetime.now(timezone.utc)))
        return bool(found["clusters"][0]["after"])

    await eventually(is_kept, what="compliance to be kept")
    before = datetime.now(timezone.utc)
    labels = {"app": "kept", "team": "keepers"}
    with opened(cluster, *workload("kept", SPACE, labels=labels)):
        await eventually(lambda: is_told(before, "came"), what="it to be told")
        between = datetime.now(timezone.utc)
    await eventually(lambda: is_told(between, "gone"), what="its end to be told")
    # It came and went again: nothing is different, but the line has it.
    assert await changed(before) == set()
    told = await seen.ask("compliance", **asked(before, until=between.isoformat()))
    [line] = [one for one in told["lines"] if one["key"] == "keepers"]
    assert line["points"][0] is None
    assert line["points"][-1]["failing"]["mesh"] == 1


async def test_a_stream_goes_on_where_it_stopped(
    seen: Seeing, token: str, cluster: Cluster
) -> None:
    async with seen.following(token) as first:
        await first.until(lambda f: f.info)
        last = first.last_id
    with applied(cluster, json.dumps(service("missed", SPACE))):
        async with seen.following(token, after=last) as second:
            await second.until(lambda f: f.named(service="missed"))
    assert "snapshot" not in [name for name, _ in second.events]


async def test_wrong_questions_get_coded_errors(seen: Seeing, token: str) -> None:
    with pytest.raises(MalformedRequest, match="graphType"):
        await seen.ask("graph", graphType="pie")
    with pytest.raises(MalformedRequest, match="namespaces"):
        await seen.ask("graph", namespaces=7)
    with pytest.raises(MalformedRequest, match="`at`"):
        await seen.ask("findings", at="yesterday")
    with pytest.raises(MalformedRequest, match="host"):
        await seen.ask("path", cluster=token)
    with pytest.raises(MalformedRequest, match="configuration"):
        await seen.ask("object", cluster=token, kind="/Secret", namespace="a", name="b")
    for verb in ("graph", "drift", "findings", "vet", "compliance"):
        with pytest.raises(ClusterNotWatched) as refused:
            await seen.ask(verb, cluster="nobody" * 10_000)
        assert len(refused.value.summary) < 400
        with pytest.raises(MalformedRequest, match="cluster"):
            await seen.ask(verb, cluster=["*"])


async def test_nothing_secret_is_watched_or_told(
    seen: Seeing, token: str, cluster: Cluster, topology_meshery: Meshery
) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hidden", "namespace": SPACE},
        "stringData": {"password": "tr0ub4dor"},
    }
    async with seen.following(token) as follower:
        await topology_meshery.run("custom", body=json.dumps(secret))
        with applied(cluster, json.dumps(service("after", SPACE))):
            await follower.until(lambda f: f.named(service="after"))
        assert not any("hidden" in json.dumps(data) for _, data in follower.events)
        await topology_meshery.run("custom", body=json.dumps(secret), delete=True)
    assert "tr0ub4dor" not in seen.stack.log_text()
