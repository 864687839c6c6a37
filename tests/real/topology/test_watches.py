"""The watches of one cluster where something is not as it should be."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from services.chassis.kube import client as clients
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.objects import KubeObject
from services.chassis.kube.resources import Resources
from services.chassis.telemetry.metrics import Metrics
from services.topology.adapters import watches
from services.topology.adapters.watches import ClusterWatch, Watch
from services.topology.analysis.engine import Analysis
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Object
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State
from services.topology.graph.graph import Graph
from services.topology.mesh.meshes import mesh_of
from services.topology.observing import Observer
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.testbed.shops import service
from tests.testbed.waiting import eventually
from tests.unit.topology.drift.worlds import World, intent, watched

SPACE = "default"
_CONNECTIONS = 96
"""As the service has it: each watch holds one, and a cluster may have any number of definitions."""


class Odd(Reader):
    """Cannot read one object."""

    def read(self, kind: str, obj: KubeObject) -> Object:
        if obj["metadata"]["name"] == "odd":
            raise KeyError("of a form that nobody foresaw")
        return super().read(kind, obj)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    with FaultProxy(urlsplit(cluster.server_url).port or 0) as proxy:
        yield proxy


@asynccontextmanager
async def _watching(
    text: str, *, world: World | None = None, **options: Any
) -> AsyncIterator[tuple[ClusterWatch, State]]:
    state = State("c1")
    observer = Observer(
        state=state, graph=Graph(state), analysis=Analysis(state, ()), metrics=Metrics()
    )
    config = parse_kubeconfig(text)
    async with (
        watched(world or World()) as drifts,
        KubeClient(config, connections=_CONNECTIONS) as client,
    ):
        watch = ClusterWatch(
            client=client, resources=Resources(client), observer=observer, drifts=drifts, **options
        )
        running = asyncio.create_task(watch.run())
        try:
            async with asyncio.timeout(60.0):
                await watch.first_lists()
            yield watch, state
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def _services(cluster: Cluster, *names: str) -> AsyncIterator[None]:
    path = f"/api/v1/namespaces/{SPACE}/services"
    for name in names:
        await asyncio.to_thread(cluster.api.request, "POST", path, service(name, SPACE))
    try:
        yield
    finally:
        for name in names:
            await asyncio.to_thread(cluster.api.request, "DELETE", f"{path}/{name}")


async def test_an_object_that_cannot_be_read_hides_no_other(cluster: Cluster) -> None:
    with capture_logs() as logs:
        async with (
            _services(cluster, "odd", "listed"),
            _watching(cluster.kubeconfig_text, reader=Odd()) as (_, state),
        ):
            assert state.get(kinds.SERVICE, SPACE, "listed")
            async with _services(cluster, "watched"):
                await eventually(
                    lambda: state.get(kinds.SERVICE, SPACE, "watched"), what="a later one"
                )
    assert "object_unreadable" in [entry["event"] for entry in logs]


async def test_discovery_that_fails_leaves_what_is_watched(
    cluster: Cluster, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_RETRY_WITHIN", timedelta(seconds=0.2))
    text = cluster.kubeconfig_through(f"https://{proxy.address}")
    async with _watching(text) as (watch, state):
        proxy.refuse()
        proxy.cut()
        watch._redefined()
        await eventually(
            lambda: "discovery" in watch.observer._troubles, what="the failure", within_s=60.0
        )
        assert state.count(kinds.NAMESPACE)
        proxy.heal()
        await eventually(lambda: not watch.observer._troubles, what="all to go on", within_s=60.0)


async def test_a_kind_of_many_namespaces_is_watched_by_one_connection(cluster: Cluster) -> None:
    async with _watching(cluster.kubeconfig_text) as (watch, _):
        for number in range(8):
            obj = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "a", "namespace": f"n{number}"},
            }
            applied = intent(obj, {})
            watch.drifts.intended(Key(applied.kind, applied.namespace, "a"), applied)
        found = [one async for one, _ in watch._of_intents()]
    assert [(one.kind, one.namespace) for one in found] == [("/ServiceAccount", "")]


async def test_settings_are_found_where_istiod_is_in_another_cluster(cluster: Cluster) -> None:
    """As a cluster that an external control plane serves has them: a Service, and no pod."""
    space = f"t{secrets.token_hex(4)}"
    spaces = "/api/v1/namespaces"
    settings = {
        "metadata": {"name": "istio"},
        "data": {"mesh": "trustDomain: shop.example.com"},
    }
    istiod = service("istiod", space)
    istiod["metadata"]["labels"] = {"app.kubernetes.io/name": "istiod"}
    request = cluster.api.request
    async with _watching(cluster.kubeconfig_text) as (_, state):
        await asyncio.to_thread(request, "POST", spaces, {"metadata": {"name": space}})
        try:
            await asyncio.to_thread(request, "POST", f"{spaces}/{space}/configmaps", settings)
            await asyncio.to_thread(request, "POST", f"{spaces}/{space}/services", istiod)
            await eventually(
                lambda: mesh_of(state).root_namespace == space, what="the settings", within_s=60.0
            )
            assert mesh_of(state).trust_domain == "shop.example.com"
        finally:
            await asyncio.to_thread(request, "DELETE", f"{spaces}/{space}")


async def test_an_intent_has_its_kind_watched_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "_SURVEY_S", 3600.0)
    obj = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "a", "namespace": SPACE},
    }
    applied = intent(obj, {})
    key = Key(applied.kind, applied.namespace, "a")
    sought = Watch(applied.kind, applied.namespace, shows=False)
    world = World(kept={key: applied})
    async with _watching(cluster.kubeconfig_text, world=world) as (watch, _):
        # Definitions were listed just now, which is a reason of its own to look.
        await eventually(lambda: not watch._due.is_set(), what="the survey after the lists")
        assert sought not in watch._tasks
        watch.drifts.intended(key, applied)
        await eventually(lambda: sought in watch._listed, what="the kind to be listed")
