"""The graphs of several clusters as one."""

from __future__ import annotations

from typing import Any

from services.topology.feed import together
from services.topology.feed.deltas import EDGES, NODES, Item, View, part_of
from services.topology.feed.views import ClusterView

KIND = View.WORKLOAD
MESHES = {"a": "shop", "b": "shop", "c": "bank"}


def node(ident: str, **fields: Any) -> Item:
    return {"id": ident, "nodeType": "workload", **fields}


def service(ident: str, cluster: str, name: str = "cart", **fields: Any) -> Item:
    told = {"nodeType": "service", "cluster": cluster, "namespace": "shop", "service": name}
    return {"id": ident, **told, **fields}


def edge(source: str, target: str, rate: str = "", **fields: Any) -> Item:
    traffic = {"traffic": {"rates": {"http": rate}}} if rate else {}
    what = "http" if rate else ""
    return (
        {"id": f"{source}-{target}-{what}", "source": source, "target": target} | traffic | fields
    )


def view(cluster: str, nodes: list[Item], edges: list[Item]) -> ClusterView:
    found = ClusterView(cluster)
    for part, items in ((NODES, nodes), (EDGES, edges)):
        for item in items:
            found.put(part_of(KIND, part), item["id"], item)
    return found


def joined(*views: ClusterView) -> tuple[dict[str, Item], dict[str, Item]]:
    found = together.joined({v.cluster: v for v in views}, KIND, meshes=MESHES)
    nodes, edges = (
        {item["id"]: item for item in found.decoded(part_of(KIND, part))} for part in (NODES, EDGES)
    )
    return nodes, edges


A = view(
    "a",
    [node("web"), node("cart", isOutside=True)],
    [edge("web", "cart", "2.00", destPrincipal="nobody")],
)
B = view(
    "b",
    [node("cart"), node("web", isOutside=True), node("db")],
    [edge("web", "cart", "1.00", isMTLS="100", destPrincipal="cart"), edge("cart", "db", "5.00")],
)


def test_an_edge_that_two_clusters_tell_of_is_one() -> None:
    """The source's cluster tells the traffic, and the target's the mutual TLS."""
    for views in ((A, B), (B, A)):
        nodes, edges = joined(*views)
        assert nodes.keys() == {"web", "cart", "db"}
        assert not any(found.get("isOutside") for found in nodes.values())
        assert edges.keys() == {"web-cart-http", "cart-db-http"}
        found = edges["web-cart-http"]
        assert found["traffic"]["rates"] == {"http": "2.00"}
        assert (found["isMTLS"], found["destPrincipal"]) == ("100", "cart")


def test_one_side_is_enough() -> None:
    silent = view("b", [node("cart")], [])
    nodes, edges = joined(A, silent)
    assert "isOutside" not in nodes["cart"]
    assert edges["web-cart-http"]["destPrincipal"] == "nobody"
    nodes, edges = joined(A)
    assert nodes["cart"]["isOutside"]
    _, edges = joined(view("a", [node("web")], []), B)
    assert edges["web-cart-http"]["traffic"]["rates"] == {"http": "1.00"}


def test_what_another_cluster_sends_is_not_idle() -> None:
    sends = view("a", [node("svc", isOutside=True)], [edge("svc", "cart", "2.00")])
    serves = view("b", [node("svc"), node("cart")], [edge("svc", "cart"), edge("svc", "db")])
    _, edges = joined(sends, serves)
    assert edges.keys() == {"svc-cart-http", "svc-db-"}


def test_a_service_of_several_clusters_names_the_others_of_its_mesh() -> None:
    nodes, _ = joined(
        view("a", [service("1", "east"), service("2", "east", "web")], []),
        view("b", [service("3", "west"), service("4", "west", "db", isServiceEntry={})], []),
        view("c", [service("5", "bank")], []),
    )
    places = {ident: found.get("possibleIn") for ident, found in nodes.items()}
    assert places == {"1": ["west"], "2": None, "3": ["east"], "4": None, "5": None}
