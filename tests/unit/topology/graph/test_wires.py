"""Edges that configuration makes."""

from __future__ import annotations

from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Key
from services.topology.feed.deltas import View
from tests.unit.topology.graph.clusters import (
    NS,
    Followed,
    config,
    deployed,
    service,
    workload,
)

SUBSETS = [
    {"name": "one", "labels": {"version": "v1"}},
    {"name": "two", "labels": {"version": "v2"}},
]
RULE = config(kinds.DESTINATION_RULE, "cart", {"host": "cart", "subsets": SUBSETS})
SPLIT = {
    "route": [
        {"destination": {"host": "cart", "subset": "one"}, "weight": 80},
        {"destination": {"host": "cart", "subset": "two"}, "weight": 20},
    ]
}


def shop(*more: Any) -> Followed:
    found = Followed()
    found.put(
        service("cart"),
        service("other"),
        *deployed("cart-v1", "cart"),
        *deployed("cart-v2", "cart", "v2"),
        RULE,
        *more,
    )
    return found


def virtual_service(http: list[dict[str, Any]], **more: Any) -> Any:
    spec = {"hosts": ["cart"], "http": http} | more
    return config(kinds.VIRTUAL_SERVICE, "cart", spec)


def wires(found: Followed, view: View = View.WORKLOAD) -> set[tuple[str, str, str]]:
    return {edge for edge in found.drawn(view) if edge[2] not in ("idle", "http")}


def test_subsets_lead_to_their_versions() -> None:
    found = shop(virtual_service([SPLIT]))
    first, second = "VirtualService spec.http[0].route[0]", "VirtualService spec.http[0].route[1]"
    expected = {("s:cart", "w:cart-v1", first), ("s:cart", "w:cart-v2", second)}
    assert wires(found) == expected
    # Both versions are one node of the app view, yet two edges.
    assert wires(found, View.APP) == {("s:cart", "a:cart", first), ("s:cart", "a:cart", second)}
    assert wires(found, View.SERVICE) == set()
    (two,) = (e for e in found.edges() if e.get("config", {}).get("subset") == "two")
    assert two["config"] == {
        "kind": "VirtualService",
        "namespace": NS,
        "name": "cart",
        "path": "spec.http[0].route[1]",
        "weight": 20,
        "share": 20.0,
        "subset": "two",
    }
    assert "traffic" not in two


def test_a_version_that_comes_gets_its_edge() -> None:
    found = shop(virtual_service([SPLIT]))
    found.put(*deployed("cart-late", "cart", "v2"))
    assert ("s:cart", "w:cart-late", "VirtualService spec.http[0].route[1]") in wires(found)
    found.put(workload("cart-late", "cart", "v3"))
    assert not any(target == "w:cart-late" for _, target, _ in wires(found))


def test_subsets_need_their_rule() -> None:
    found = shop(virtual_service([SPLIT]))
    found.drop(RULE.key)
    assert wires(found) == set()
    found.put(RULE)
    assert len(wires(found)) == 2


def test_faults_mirrors_and_timeouts() -> None:
    route = {
        "route": [{"destination": {"host": "other"}}],
        "mirror": {"host": "cart", "subset": "two"},
        "timeout": "3s",
        "fault": {
            "abort": {"percentage": {"value": 10}, "httpStatus": 500},
            "delay": {"fixedDelay": "5s", "percentage": {"value": 50.5}},
        },
    }
    found = shop(virtual_service([route]))
    other = found.edge("s:cart", "s:other")["config"]
    assert other["fault"] == "abort 10%, delay 5s 50.5%"
    assert other["timeout"] == "3s"
    (mirror,) = (e["config"] for e in found.edges() if "mirror" in e.get("config", {}))
    assert (mirror["path"], mirror["subset"]) == ("spec.http[0].mirror", "two")
    assert wires(found, View.SERVICE) == {
        ("s:cart", "s:other", "VirtualService spec.http[0].route[0]")
    }


GATEWAY = config(kinds.GATEWAY, "edge", {"selector": {"istio": "ingress"}}, "edge")
BOUND = config(
    kinds.VIRTUAL_SERVICE,
    "public",
    {
        "hosts": ["shop.com"],
        "gateways": ["edge/edge"],
        "http": [{"route": [{"destination": {"host": "cart"}}]}],
    },
)


def test_gateways_lead_to_services() -> None:
    found = shop(GATEWAY, BOUND)
    assert wires(found) == set()
    found.put(*deployed("ingress", namespace="edge", labels={"istio": "ingress"}))
    path = "VirtualService spec.http[0].route[0]"
    assert wires(found) == {("w:ingress", "s:cart", path)}
    # No service stands for it: it is shown itself among the services.
    assert wires(found, View.SERVICE) == {("w:ingress", "s:cart", path)}
    found.put(service("door", "edge", selector={"istio": "ingress"}))
    assert wires(found, View.SERVICE) == {("s:door", "s:cart", path)}
    by_host = {**BOUND.spec, "gateways": ["edge.edge.svc.cluster.local"]}
    found.put(config(kinds.VIRTUAL_SERVICE, "public", by_host))
    assert wires(found, View.SERVICE) == {("s:door", "s:cart", path)}
    assert "w:ingress" not in {s for s, _, _ in found.drawn(View.SERVICE)}
    found.drop(GATEWAY.key)
    assert wires(found) == set()


def test_routes_of_the_gateway_api() -> None:
    name = "gateway.networking.k8s.io/gateway-name"
    spec = {
        "parentRefs": [{"name": "g"}, {"kind": "Service", "group": "", "name": "cart"}],
        "rules": [{"backendRefs": [{"name": "cart", "weight": 3}, {"name": "other", "weight": 1}]}],
    }
    found = shop(
        config(kinds.K8S_GATEWAY, "g", {"listeners": []}),
        *deployed("g-istio", labels={name: "g"}),
        config(kinds.HTTP_ROUTE, "r", spec),
    )
    cart, other = "HTTPRoute spec.rules[0].backendRefs[0]", "HTTPRoute spec.rules[0].backendRefs[1]"
    assert wires(found) == {
        ("w:g-istio", "s:cart", cart),
        ("w:g-istio", "s:other", other),
        ("s:cart", "w:cart-v1", cart),
        ("s:cart", "w:cart-v2", cart),
        ("s:cart", "s:other", other),
    }
    shown = found.edge("w:g-istio", "s:other")["config"]
    assert (shown["weight"], shown["share"]) == (1, 25.0)
    assert found.node("svc", NS, "cart")["isK8sGatewayAPI"]


def test_routes_reach_service_entries() -> None:
    bound = virtual_service([{"route": [{"destination": {"host": "api.pay.com"}}]}])
    found = shop(bound)
    assert wires(found) == set()
    found.put(config(kinds.SERVICE_ENTRY, "pay", {"hosts": ["*.pay.com"]}))
    assert wires(found) == {("s:cart", "s:pay", "VirtualService spec.http[0].route[0]")}
    found.drop(Key(kinds.SERVICE_ENTRY, NS, "pay"))
    assert wires(found) == set()


@pytest.mark.parametrize("view", View)
def test_edges_have_ids_of_their_own(view: View) -> None:
    found = shop(virtual_service([SPLIT, SPLIT]), GATEWAY, BOUND)
    ids = [edge["id"] for edge in found.edges(view)]
    assert len(ids) == len(set(ids))
    nodes = found.nodes(view)
    assert all(e["source"] in nodes and e["target"] in nodes for e in found.edges(view))
