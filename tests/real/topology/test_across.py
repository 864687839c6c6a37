"""Edges between clusters, out of a real Prometheus that scrapes the proxies of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from services.chassis.prometheus import PrometheusApi
from services.topology.cluster import kinds
from services.topology.cluster.objects import Object
from services.topology.cluster.state import State
from services.topology.feed import together
from services.topology.feed.deltas import EDGES, NODES, View, part_of
from services.topology.feed.neighbours import Names, names_for
from services.topology.feed.views import ClusterView
from services.topology.mesh.meshes import istio_name, mesh_id
from services.topology.renewing import own
from services.topology.telemetry.prometheus import PrometheusTelemetry
from services.topology.telemetry.selecting import Selected
from tests.real.topology.pages import Page, edge
from tests.real.topology.test_telemetry import WINDOW_S, scraped
from tests.testbed import loopback
from tests.testbed.prometheus import Prometheus
from tests.unit.topology.graph.clusters import Followed, config, deployed, service

CLUSTERS = {"east": "blue", "west": "green"}
"""Istio's name of each, and what people call it."""
CALL = edge(
    source_cluster="east",
    source_workload="web",
    source_canonical_service="web",
    destination_cluster="west",
    destination_workload="reviews-v1",
)


@pytest.fixture
def pages() -> Iterator[dict[str, Page]]:
    found = {name: Page() for name in CLUSTERS}
    yield found
    for page in found.values():
        page.close()


@pytest.fixture
def scraping(
    pages: dict[str, Page], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    targets = {name: [f"{loopback.HOST}:{page.port}"] for name, page in pages.items()}
    with Prometheus(tmp_path_factory.mktemp("prometheus"), targets) as running:
        yield running


@pytest.fixture
async def api(scraping: Prometheus) -> AsyncIterator[PrometheusApi]:
    api = PrometheusApi(scraping.url, is_kept=True)
    yield api
    await api.close()


def cluster(istio: str, *objects: Object) -> Followed:
    """One of a mesh, with what Istio's injector says of it."""
    found = Followed(State(f"token-{istio}", CLUSTERS[istio]))
    injected = {"global": {"multiCluster": {"clusterName": istio}, "meshID": "shop"}}
    injector = config(
        kinds.CONFIG_MAP, "istio-sidecar-injector", {"values": injected}, "istio-system"
    )
    found.put(injector, *objects)
    return found


def move(pages: dict[str, Page]) -> None:
    """The source counts what timed out on its way as well; its Prometheus has no more of it."""
    pages["east"].request(CALL, reporter="source", times=20, ms=30)
    pages["east"].request(CALL, reporter="source", times=4, code="504", flags="UT")
    pages["west"].request(CALL, reporter="destination", times=20, ms=10, policy="mutual_tls")


async def test_an_edge_seen_from_both_sides_is_one(
    pages: dict[str, Page], scraping: Prometheus, api: PrometheusApi
) -> None:
    reviews = [service("reviews"), *deployed("reviews-v1", "reviews")]
    seen = {
        "east": cluster("east", service("reviews"), *deployed("web")),
        "west": cluster("west", *reviews),
    }
    move(pages)
    scraped(scraping, times=2)
    move(pages)
    at = scraped(scraping, times=3)
    known = {
        f.state.cluster: Names(f.state.name, istio_name(f.state), mesh_id(f.state))
        for f in seen.values()
    }
    for istio, found in seen.items():
        # Names may come before traffic or after it.
        if istio == "east":
            found.follow(found.graph.neighbours(names_for(found.state.cluster, known)))
        telemetry = PrometheusTelemetry(Selected(api, {"job": istio}))
        flows = own(await telemetry.flows(at=at, window_s=WINDOW_S), found.state)
        assert flows, f"nothing of {istio}"
        found.follow(found.graph.flows(flows))
        if istio == "west":
            outside = [n for n in found.nodes().values() if n.get("isOutside")]
            assert {node["cluster"] for node in outside} == {"east"}
            found.follow(found.graph.neighbours(names_for(found.state.cluster, known)))

    for kind in View:
        views = {f.state.cluster: _view(f, kind) for f in seen.values()}
        meshes = {token: names.mesh for token, names in known.items()}
        whole = together.joined(views, kind, meshes=meshes)
        nodes = {node["id"]: node for node in whole.decoded(part_of(kind, NODES))}
        assert not [node for node in nodes.values() if node.get("isOutside")], kind
        assert {node["cluster"] for node in nodes.values()} == set(CLUSTERS.values())
        busy = [e for e in whole.decoded(part_of(kind, EDGES)) if "traffic" in e]
        crossing = [
            e for e in busy if nodes[e["source"]]["cluster"] != nodes[e["target"]]["cluster"]
        ]
        assert len(crossing) == 1, kind
        call = crossing[0]
        assert nodes[call["source"]]["cluster"] == "blue"
        assert nodes[call["target"]]["service"] == "reviews"
        # The timeouts are the source's word, that it was encrypted is the target's.
        assert call["traffic"]["rates"]["httpPercentErr"] == "16.7"
        assert call["isMTLS"] == "100"
        services = [n for n in nodes.values() if n["nodeType"] == "service"]
        assert {n["cluster"]: n["possibleIn"] for n in services} == {
            "blue": ["green"],
            "green": ["blue"],
        }


def _view(found: Followed, kind: View) -> ClusterView:
    view = ClusterView(found.state.cluster)
    for part in (part_of(kind, NODES), part_of(kind, EDGES)):
        for ident, item in found.items.get(part, {}).items():
            view.put(part, ident, item)
    return view
