"""A cluster's own Prometheus, found among its Services and asked through its API server.

Prometheus is real, and so is the API server with its proxy, its rights and the endpoints behind a
Service; a simulated pod's address leads to that Prometheus.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.rights import Tier, tier_rules
from services.chassis.errors import TelemetryUnavailable
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.prometheus import MetricsError
from services.topology.adapters.services import ServicePrometheus
from services.topology.telemetry.discovering import MetricsDenied
from services.topology.telemetry.places import Place
from services.topology.telemetry.prometheus import PrometheusTelemetry
from services.topology.telemetry.selecting import Selected
from services.topology.telemetry.traffic import Flows
from tests.real.topology.conftest import QUICK
from tests.real.topology.pages import Page, edge
from tests.testbed import loopback
from tests.testbed.backends import Backends
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.egresses import Egress
from tests.testbed.meshery import Meshery
from tests.testbed.perfrigs import smp
from tests.testbed.processes import wait_until
from tests.testbed.prometheus import Prometheus
from tests.testbed.seeing import Follower, Seeing, seeing
from tests.testbed.shops import opened
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

MONITORING, MESH = "monitoring", "istio-system"
PORT, OTHER_PORT = 9090, 9091
BLUE, GREEN = {"cluster": "blue"}, {"cluster": "green"}
WINDOW_S = 120.0
"""Longer than the requests and their scrapes take on a busy machine."""
WITHIN = timedelta(seconds=10)
_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def pages() -> Iterator[dict[str, Page]]:
    """What the proxies of two clusters show; green's requests go elsewhere."""
    shown = {"blue": Page(), "green": Page()}
    yield shown
    for page in shown.values():
        page.close()


@pytest.fixture(scope="module")
def scraping(
    built: None, pages: dict[str, Page], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """One Prometheus for two clusters."""
    targets = {name: [f"{loopback.HOST}:{page.port}"] for name, page in pages.items()}
    labels = {name: {"cluster": name} for name in pages}
    with Prometheus(tmp_path_factory.mktemp("prometheus"), targets, labels=labels) as running:
        yield running


@pytest.fixture
def egress(cluster: Cluster, scraping: Prometheus) -> Iterator[Egress]:
    """Behind the pods' port 9090 is Prometheus, behind 9091 nobody."""
    with Egress(cluster, {PORT: urlsplit(scraping.url).port or 0}) as egress:
        yield egress


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> None:
    for name in (MONITORING, MESH):
        cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": name}})


def objects(
    name: str, namespace: str, *, port: int = PORT, annotations: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """A Service and a workload whose pod kwok makes ready."""
    metadata = {"name": name, "namespace": namespace}
    pod = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "example.org/main"}]},
    }
    ports = [{"name": "http", "port": PORT, "targetPort": port}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**metadata, "annotations": annotations or {}},
            "spec": {"selector": {"app": name}, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod},
        },
    ]


def now() -> datetime:
    return datetime.now(timezone.utc)


def moved(pages: dict[str, Page], scraping: Prometheus) -> datetime:
    """Requests in both clusters, on edges of their own; gives a moment when all are scraped."""
    for times in (1, 2):
        for number, page in enumerate(pages.values(), start=1):
            page.request(edge(number), reporter="destination", times=10 * number, ms=20)
        since = now()
        wait_until(
            lambda since=since: _is_scraped(scraping, since, times=2),  # type: ignore[misc]
            timeout_s=_WITHIN_S,
            what=f"scrape {times}",
            processes=[scraping.process],
        )
    return now()


def _is_scraped(scraping: Prometheus, since: datetime, *, times: int) -> bool:
    span_ms = int((now() - since).total_seconds() * 1000) + 1
    counts = scraping.ask(f"count_over_time(up[{span_ms}ms])")
    return len(counts) == 2 and all(int(one["value"][1]) >= times for one in counts)


@contextmanager
def accounts(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Kubeconfigs of an account with the rights of the tier `read`, and of one without `get` on
    `services/proxy`."""
    rules = tier_rules(Tier.READ)
    fewer = [rule for rule in rules if rule["resources"] != ["services/proxy"]]
    assert len(fewer) == len(rules) - 1
    found = {}
    for name, allowed in (("reader", rules), ("reader-without", fewer)):
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": allowed,
        }
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(role))
        found[name] = cluster.token_kubeconfig_text(account=name, role=name)
    yield found
    for name in found:
        cluster.kubectl("delete", "clusterrole", name)
        cluster.kubectl("delete", "clusterrolebinding", f"kube-system-{name}-{name}")
        cluster.kubectl("delete", "serviceaccount", name, "-n", "kube-system")


@asynccontextmanager
async def reached(kubeconfig: str, path: str) -> AsyncIterator[ServicePrometheus]:
    async with KubeClient(parse_kubeconfig(kubeconfig), is_read_only=True) as client:
        yield ServicePrometheus(client, path, WITHIN)


PLACE = Place(MONITORING, "prometheus", PORT)


async def has_all(metrics: ServicePrometheus) -> bool:
    """Whether Prometheus has scraped both of its clusters."""
    try:
        return {one.labels["cluster"] for one in await metrics.query("up", at=now())} == {
            "blue",
            "green",
        }
    except MetricsError:
        return False


async def test_the_account_that_watches_is_enough_and_needs_the_right(
    cluster: Cluster, egress: Egress, namespaces: None
) -> None:
    with opened(cluster, *objects("prometheus", MONITORING)), accounts(cluster) as kubeconfigs:
        async with reached(kubeconfigs["reader"], PLACE.proxy_path) as metrics:
            await eventually(lambda: has_all(metrics), what="both clusters", within_s=_WITHIN_S)
            with pytest.raises(MetricsError, match=r"refused the query: bad_data: .*parse error"):
                await metrics.query("up{", at=now())
            egress.ports.clear()
            egress.cut()
            with pytest.raises(MetricsError) as away:
                await metrics.query("up", at=now())
            assert not isinstance(away.value, MetricsDenied)
        async with reached(kubeconfigs["reader-without"], PLACE.proxy_path) as metrics:
            with pytest.raises(MetricsDenied, match=r"MB-3003 .*`services/proxy`.*rbac\.md"):
                await metrics.query("up", at=now())


async def test_a_service_that_nobody_is_behind_is_told(
    cluster: Cluster, egress: Egress, namespaces: None
) -> None:
    async with reached(cluster.kubeconfig_text, PLACE.proxy_path) as metrics:
        with pytest.raises(MetricsError, match="not found"):
            await metrics.query("up", at=now())


async def test_two_clusters_on_one_prometheus_are_told_apart(
    cluster: Cluster,
    egress: Egress,
    namespaces: None,
    pages: dict[str, Page],
    scraping: Prometheus,
) -> None:
    """By every query: what one answer lacks would be told as missing."""

    async def flows(labels: dict[str, str]) -> Flows:
        telemetry = PrometheusTelemetry(Selected(metrics, labels))
        found = await telemetry.flows(at=at, window_s=WINDOW_S)
        assert telemetry.missing == ()
        return found

    at = moved(pages, scraping)
    with opened(cluster, *objects("prometheus", MONITORING)):
        async with reached(cluster.kubeconfig_text, PLACE.proxy_path) as metrics:
            await eventually(lambda: has_all(metrics), what="both clusters", within_s=_WITHIN_S)
            [blue], [green] = await flows(BLUE), await flows(GREEN)
            assert (blue.source.workload, green.source.workload) == ("page-1", "page-2")
            assert {key.source.workload for key in await flows({})} == {"page-1", "page-2"}
            assert await flows({"cluster": "red"}) == {}


# --- the whole service ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {**QUICK, "MESHBUS_PERF_PROMETHEUS_SCRAPE_INTERVAL": "1s"}
    with Stack(tmp_path_factory.mktemp("found"), settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
async def meshery(stack: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as connected:
        await connected.run("custom", body=config_map("registered"))
        await connected.run("custom", body=config_map("registered"), delete=True)
        yield connected


@pytest.fixture(scope="module")
async def seen(stack: Stack, meshery: Meshery, cluster: Cluster) -> AsyncIterator[Seeing]:
    """The topology service, which watches the shared cluster and was told of no Prometheus."""
    async with seeing(stack) as found:
        await found.watched(parse_kubeconfig(cluster.kubeconfig_text).cluster)
        yield found


def source(follower: Follower, name: str) -> Any:
    """What is told of the telemetry when this is its source."""
    telemetry = follower.info.get("telemetry") or {}
    return telemetry if telemetry.get("source") == name and telemetry["state"] == "ok" else None


async def test_a_prometheus_is_noticed_when_it_comes_and_when_it_goes(
    seen: Seeing,
    cluster: Cluster,
    egress: Egress,
    namespaces: None,
    pages: dict[str, Page],
    scraping: Prometheus,
) -> None:
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    moved(pages, scraping)
    async with seen.following(token, view="workload") as follower:
        await follower.until(lambda f: source(f, "Envoy"))
        with pytest.raises(TelemetryUnavailable, match="no Prometheus is known"):
            await seen.ask("metrics", cluster=token, query="up")
        with opened(cluster, *objects("prometheus", MONITORING)):
            found = "Prometheus monitoring/prometheus (found)"
            await follower.until(lambda f: source(f, found))
            answer = await seen.ask("metrics", cluster=token, query="count by (cluster) (up)")
            assert answer["source"] == found
            assert {one["metric"]["cluster"] for one in answer["result"]} == {"blue", "green"}

            # The mesh's own namespace goes first, as soon as somebody answers there.
            with opened(cluster, *objects("prometheus", MESH, port=OTHER_PORT)):
                told = await follower.until(lambda f: _tried(f, "istio-system/prometheus"))
                assert source(follower, found), told
                egress.ports[OTHER_PORT] = egress.ports[PORT]
                first = "Prometheus istio-system/prometheus (found)"
                telemetry = await follower.until(lambda f: source(f, first))
                assert telemetry["tried"] == [f"{found}: not asked, {first} comes first"]
            await follower.until(lambda f: source(f, found))

            # An annotation cuts it down to this cluster, or says that it is none.
            value = "meshbus.io/prometheus-labels=cluster=blue"
            cluster.kubectl("annotate", "service", "prometheus", "-n", MONITORING, value)

            async def is_cut_down() -> bool:
                answer = await seen.ask("metrics", cluster=token, query="count by (cluster) (up)")
                return [one["metric"] for one in answer["result"]] == [BLUE]

            await eventually(is_cut_down, what="one cluster alone", within_s=_WITHIN_S)
            never = "meshbus.io/prometheus=false"
            cluster.kubectl("annotate", "service", "prometheus", "-n", MONITORING, never)
            await follower.until(lambda f: source(f, "Envoy"))
            cluster.kubectl(
                "annotate", "service", "prometheus", "-n", MONITORING, "meshbus.io/prometheus-"
            )
            await follower.until(lambda f: source(f, found))
        # Once the Service has gone as well, there is nothing more to say of it.
        await follower.until(lambda f: source(f, "Envoy") and not f.info["telemetry"]["tried"])
    [info] = (await seen.ask("clusters"))["clusters"]
    assert info["telemetry"] == {"source": "Envoy", "state": "ok", "detail": "", "tried": []}


def _tried(follower: Follower, name: str) -> str:
    tried = (follower.info.get("telemetry") or {}).get("tried", ())
    return next((text for text in tried if name in text and "service proxy" in text), "")


async def test_a_registration_names_the_prometheus_of_its_cluster(
    stack: Stack,
    seen: Seeing,
    meshery: Meshery,
    cluster: Cluster,
    egress: Egress,
    namespaces: None,
    pages: dict[str, Page],
    scraping: Prometheus,
) -> None:
    """In a namespace where none is looked for; an address outside is not asked."""
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster

    async def registered(told: dict[str, str]) -> None:
        document = yaml.safe_load(cluster.kubeconfig_text)
        extension = {"name": "meshbus.io/prometheus", "extension": told}
        document["contexts"][0]["context"]["extensions"] = [extension]
        kubeconfig = yaml.safe_dump(document)
        async with Meshery(stack.gateway_address, [kubeconfig]).connected() as again:
            await again.run("custom", body=config_map("registered"))

    moved(pages, scraping)
    async with seen.following(token) as follower:
        await follower.until(lambda f: source(f, "Envoy"))
        with opened(cluster, *objects("main", "default")):
            await registered({"service": "default/main", "labels": "cluster=blue"})
            named = "Prometheus default/main (named at the registration)"
            await follower.until(lambda f: source(f, named))
            answer = await seen.ask("metrics", cluster=token, query="count by (cluster) (up)")
            assert [one["metric"] for one in answer["result"]] == [BLUE]
        await registered({"url": scraping.url})
        setting = "MESHBUS_TOPOLOGY_PROMETHEUS_FROM_CLUSTERS"
        await follower.until(
            lambda f: source(f, "Envoy") and setting in "".join(f.info["telemetry"]["tried"])
        )
    await meshery.run("custom", body=config_map("registered"), delete=True)
    async with seen.following(token) as follower:
        await follower.until(lambda f: source(f, "Envoy") and not f.info["telemetry"]["tried"])


async def test_a_run_is_judged_by_the_clusters_own_prometheus(
    seen: Seeing,
    meshery: Meshery,
    cluster: Cluster,
    egress: Egress,
    namespaces: None,
    pages: dict[str, Page],
) -> None:
    """Perf has no way to it but through topology, and hears of this cluster alone."""
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster

    async def tested() -> str:
        """What the events of a test say of its telemetry."""
        url = f"http://{loopback.HOST}:{server.port}/"
        body = smp(url, rps=20, duration="4s", service="reviews.shop")
        operation = await meshery.apply("performance-test", body=body)
        [final] = await meshery.finals(operation)
        assert not final.failed, final.event
        events = [received.event for received in meshery.of(operation)]
        return "\n".join(
            f"{event.summary}\n{event.details}"
            for event in events
            if event.summary.startswith("Telemetry: ")
        )

    async def call() -> None:
        while True:
            for number, page in enumerate(pages.values(), start=1):
                page.request(edge(number), reporter="destination", times=10 * number, ms=20)
            await asyncio.sleep(0.5)

    annotations = {"meshbus.io/prometheus-labels": "cluster=blue"}
    with Backends() as servers:
        server = servers.add("target")
        assert await tested() == ""
        with opened(cluster, *objects("prometheus", MONITORING, annotations=annotations)):
            calling = asyncio.create_task(call(), name="calls")
            async with seen.following(token) as follower:
                await follower.until(
                    lambda f: source(f, "Prometheus monitoring/prometheus (found)")
                )
            told = await tested()
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
    assert "destination: " in told
    assert "Edge: page-1.shop to reviews-1.shop" in told
    assert "page-2" not in told
    assert "refused the query" not in told
    assert "MB-" not in told
