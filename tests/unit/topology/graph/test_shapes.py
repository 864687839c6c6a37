"""Names, edges and boxes of the four views, as Kiali's vendor JSON has them."""

from __future__ import annotations

from hashlib import sha256

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Key
from services.topology.feed.deltas import View
from services.topology.graph.ids import edge_id, node_id, text_of
from services.topology.telemetry.traffic import Called, Flow, FlowKey, Peer, Protocol
from tests.unit.topology.graph.clusters import (
    CLUSTER,
    NS,
    UNKNOWN,
    Followed,
    called,
    config,
    deployed,
    endpoints,
    http,
    ident,
    peer,
    service,
    told,
)

CART, SHOP = peer("cart-v1", "cart"), peer("front-v1", "front")


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def shop() -> Followed:
    """A front end that calls a cart of two versions."""
    found = Followed()
    found.put(
        service("front"),
        service("cart"),
        endpoints("front"),
        endpoints("cart"),
        *deployed("front-v1", "front"),
        *deployed("cart-v1", "cart"),
        *deployed("cart-v2", "cart", "v2"),
    )
    return found


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (("svc", CLUSTER, NS, "cart"), "svc_east_shop_cart"),
        (("wl", CLUSTER, NS, "cart-v1"), "wl_east_shop_cart-v1"),
        (("app", CLUSTER, NS, "cart"), "app_east_shop_cart"),
        (("vapp", CLUSTER, NS, "cart-v1"), "vapp_east_shop_cart-v1"),
        (("vapp", CLUSTER, NS, "cart_v1"), "vapp_east_shop_cart_v1"),
        (("box", CLUSTER, NS, "cart"), "box_east_shop_cart"),
        (("unknown", CLUSTER, "", ""), "east_unknown_source"),
    ],
)
def test_ids(key: tuple[str, str, str, str], text: str) -> None:
    assert text_of(key) == text
    assert node_id(key) == digest(text)


def test_edge_ids_are_made_of_the_nodes_ids() -> None:
    a, b = ("wl", CLUSTER, NS, "a"), ("svc", CLUSTER, NS, "b")
    joined = f"{digest('wl_east_shop_a')}.{digest('svc_east_shop_b')}.http"
    assert edge_id((a, b, "http")) == digest(joined)


IDLE = {
    View.WORKLOAD: {("s:cart", "w:cart-v1"), ("s:cart", "w:cart-v2"), ("s:front", "w:front-v1")},
    View.VERSIONED_APP: {
        ("s:cart", "a:cart-v1"),
        ("s:cart", "a:cart-v2"),
        ("s:front", "a:front-v1"),
    },
    View.APP: {("s:cart", "a:cart"), ("s:front", "a:front")},
    View.SERVICE: set(),
}


@pytest.mark.parametrize("view", View)
def test_without_telemetry_services_lead_to_what_they_select(view: View) -> None:
    assert shop().drawn(view) == {(*ends, "idle") for ends in IDLE[view]}


TRAFFIC = {
    View.WORKLOAD: {
        ("w:front-v1", "s:cart", "http"),
        ("s:cart", "w:cart-v1", "http"),
        ("s:cart", "w:cart-v2", "idle"),
        ("s:front", "w:front-v1", "idle"),
    },
    View.VERSIONED_APP: {
        ("a:front-v1", "s:cart", "http"),
        ("s:cart", "a:cart-v1", "http"),
        ("s:cart", "a:cart-v2", "idle"),
        ("s:front", "a:front-v1", "idle"),
    },
    View.APP: {
        ("a:front", "s:cart", "http"),
        ("s:cart", "a:cart", "http"),
        ("s:front", "a:front", "idle"),
    },
    View.SERVICE: {("s:front", "s:cart", "http")},
}


@pytest.mark.parametrize("view", View)
def test_services_stand_between_source_and_destination(view: View) -> None:
    found = shop()
    found.flows(http(SHOP, called("cart"), CART))
    assert found.drawn(view) == TRAFFIC[view]
    found.flows()
    assert found.drawn(view) == {(*ends, "idle") for ends in IDLE[view]}


def test_an_unknown_source_is_a_node_of_its_own() -> None:
    found = shop()
    found.flows(http(UNKNOWN, called("front"), SHOP))
    item = found.nodes()[digest("east_unknown_source")]
    assert item["nodeType"] == "unknown"
    assert item["isRoot"]
    assert ("unknown", "s:front", "http") in found.drawn()
    assert ("unknown", "s:front", "http") in found.drawn(View.SERVICE)


def test_an_unknown_destination_ends_at_the_service() -> None:
    found = shop()
    found.flows(http(SHOP, called("cart"), UNKNOWN, {"503": 1.0}))
    assert ("w:front-v1", "s:cart", "http") in found.drawn()
    assert ("s:cart", "w:cart-v1", "idle") in found.drawn()


def test_what_nobody_knows_is_one_service_per_namespace() -> None:
    found = shop()
    found.flows(http(SHOP, Called(CLUSTER, NS), UNKNOWN))
    assert found.node("svc", NS, "unknown")["nodeType"] == "service"


@pytest.mark.parametrize("name", ["PassthroughCluster", "BlackHoleCluster"])
def test_clusters_of_envoy_are_services(name: str) -> None:
    found = shop()
    found.flows(http(SHOP, Called(CLUSTER, "unknown", name, name), UNKNOWN))
    assert found.node("svc", "unknown", name)["nodeType"] == "service"
    assert ("w:front-v1", f"s:{name}", "http") in found.drawn()


def test_around_a_waypoint_no_service_is_put_between() -> None:
    found = shop()
    found.flows(http(SHOP, called("cart"), CART, waypoint="to"))
    assert found.edge("w:front-v1", "w:cart-v1")["waypoint"] == {"direction": "to"}


def test_a_called_host_of_a_service_entry_is_its_node() -> None:
    found = shop()
    away = Called(CLUSTER, NS, "api.pay.com", "api.pay.com")
    found.flows(http(SHOP, away, UNKNOWN))
    assert ("w:front-v1", "s:api.pay.com", "http") in found.drawn()
    entry = {"hosts": ["*.pay.com"], "location": "MESH_EXTERNAL"}
    found.put(config(kinds.SERVICE_ENTRY, "pay", entry))
    assert ("w:front-v1", "s:pay", "http") in found.drawn()
    assert ident("svc", NS, "api.pay.com") not in found.nodes()
    assert found.node("svc", NS, "pay")["isServiceEntry"] == {
        "hosts": ["*.pay.com"],
        "location": "MESH_EXTERNAL",
        "namespace": NS,
    }
    found.drop(Key(kinds.SERVICE_ENTRY, NS, "pay"))
    assert ("w:front-v1", "s:api.pay.com", "http") in found.drawn()


def test_a_workload_of_telemetry_alone_goes_with_its_traffic() -> None:
    found = shop()
    far = Peer("west", NS, "far-v1", "far", "v1")
    found.flows(http(far, called("cart"), CART))
    (item,) = (n for n in found.nodes().values() if told(n) == "w:far-v1")
    assert item["cluster"] == "west"
    assert item["isOutside"]
    assert (item["app"], item["version"]) == ("far", "v1")
    found.flows()
    assert "w:far-v1" not in map(told, found.nodes().values())


def test_telemetry_without_a_clusters_name_is_of_this_one() -> None:
    found = shop()
    source = Peer("Kubernetes", NS, "front-v1", "front", "v1")
    found.flows(http(source, called("cart"), CART))
    assert ("w:front-v1", "s:cart", "http") in found.drawn()
    assert len(found.nodes()) == 5


def test_apps_with_several_nodes_are_boxed() -> None:
    found = shop()
    box = found.nodes(View.VERSIONED_APP)[digest("box_east_shop_cart")]
    assert box == {
        "id": digest("box_east_shop_cart"),
        "nodeType": "box",
        "cluster": CLUSTER,
        "namespace": NS,
        "app": "cart",
        "healthData": None,
        "isBox": "app",
    }
    parents = {
        told(item)
        for item in found.nodes(View.VERSIONED_APP).values()
        if item.get("parent") == box["id"]
    }
    assert parents == {"s:cart", "a:cart-v1", "a:cart-v2"}
    assert not any("parent" in item for item in found.nodes(View.WORKLOAD).values())


def test_a_box_goes_when_one_node_is_left() -> None:
    found = Followed()
    found.put(service("cart"), *deployed("cart"))
    assert digest("box_east_shop_cart") in found.nodes(View.APP)
    found.drop(Key(kinds.SERVICE, NS, "cart"))
    assert digest("box_east_shop_cart") not in found.nodes(View.APP)
    assert "parent" not in found.node("app", NS, "cart", view=View.APP)


def test_fields_of_nodes() -> None:
    found = shop()
    workload = found.node("wl", NS, "cart-v1")
    assert {k: workload[k] for k in ("nodeType", "cluster", "namespace", "workload", "app")} == {
        "nodeType": "workload",
        "cluster": CLUSTER,
        "namespace": NS,
        "workload": "cart-v1",
        "app": "cart",
    }
    assert workload["version"] == "v1"
    assert workload["isIdle"]
    version = found.node("vapp", NS, "cart-v1", view=View.VERSIONED_APP)
    assert (version["nodeType"], version["workload"], version["version"]) == (
        "app",
        "cart-v1",
        "v1",
    )
    app = found.node("app", NS, "cart", view=View.APP)
    assert "workload" not in app
    assert "version" not in app
    assert app["labels"]["version"] == "v1,v2"


def test_services_that_lead_to_a_workload() -> None:
    found = shop()
    found.flows(http(SHOP, called("cart"), CART))
    expected = [{"cluster": CLUSTER, "namespace": NS, "name": "cart"}]
    assert found.node("wl", NS, "cart-v1")["destServices"] == expected
    assert found.node("svc", NS, "cart")["isInjected"]
    assert "isInjected" not in found.node("svc", NS, "cart", view=View.SERVICE)


def test_tcp_and_http_are_two_edges() -> None:
    found = shop()
    key = FlowKey(SHOP, called("cart"), CART, Protocol.TCP)
    found.flows(http(SHOP, called("cart"), CART), (key, Flow(sent=10.0, received=5.0)))
    edges = {what for source, _, what in found.drawn() if source == "w:front-v1"}
    assert edges == {"http", "tcp"}


def test_flows_without_rates_are_no_traffic() -> None:
    found = shop()
    assert not found.flows(http(SHOP, called("cart"), CART, {"200": 0.0}))


def test_info_counts() -> None:
    found = shop()
    assert found.graph.info()["nodes"]["workload"] == 5
    assert found.graph.info()["edges"]["service"] == 0
