"""`mesh.topology.path`: which configuration a request meets."""

from __future__ import annotations

from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Object
from services.topology.cluster.state import State
from services.topology.mesh.paths import explain
from tests.unit.topology.graph.clusters import (
    NS,
    config,
    deployed,
    endpoints,
    service,
)

SPLIT = [
    {"destination": {"host": "cart", "subset": "v1"}, "weight": 80},
    {"destination": {"host": "cart", "subset": "v2"}, "weight": 20},
]
SUBSETS = [
    {"name": "v1", "labels": {"version": "v1"}},
    {
        "name": "v2",
        "labels": {"version": "v2"},
        "trafficPolicy": {"tls": {"mode": "DISABLE"}},
    },
]
SHOP: list[Object] = [
    service("cart"),
    endpoints("cart", 2),
    *deployed("cart-v1", "cart"),
    *deployed("cart-v2", "cart", "v2"),
    *deployed("front", "front"),
]


def told(*more: Object, source: str | None = f"{NS}/front", **asked: Any) -> dict[str, Any]:
    state = State("tok", "east")
    for obj in (*SHOP, *more):
        state.put(obj)
    known: dict[str, Any] = {"host": "cart", "namespace": NS, "port": None} | asked
    return explain(state, source=source, **known)


def routed(name: str = "vs", namespace: str = NS, **more: Any) -> Config:
    spec = {"hosts": [f"cart.{NS}.svc.cluster.local"], "http": [{"route": SPLIT}]} | more
    return config(kinds.VIRTUAL_SERVICE, name, spec, namespace)


RULE = config(
    kinds.DESTINATION_RULE,
    "dr",
    {
        "host": "cart",
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "connectionPool": {"tcp": {}}},
        "subsets": SUBSETS,
    },
)


def test_a_service_alone() -> None:
    answer = told()
    (only,) = answer["destinations"]
    assert answer["host"] == "cart.shop.svc.cluster.local"
    assert answer["service"]["kind"] == "Service"
    assert answer["routing"] is None
    assert [w["name"] for w in only["workloads"]] == ["cart-v1", "cart-v2"]
    assert only["readyEndpoints"] == 2
    assert only["clientTls"] == "auto"
    assert only["workloads"][0]["mtls"]["mode"] == "PERMISSIVE"
    assert answer["missing"] == []


def test_routes_with_weights_and_subsets() -> None:
    answer = told(routed(), RULE)
    assert answer["routing"]["name"] == "vs"
    one, two = answer["destinations"]
    assert (one["weight"], two["weight"]) == (80, 20)
    assert [w["name"] for w in one["workloads"]] == ["cart-v1"]
    assert [w["name"] for w in two["workloads"]] == ["cart-v2"]
    assert one["destinationRule"]["name"] == "dr"
    assert one["clientTls"] == "ISTIO_MUTUAL"
    assert two["trafficPolicy"] == {"tls": {"mode": "DISABLE"}, "connectionPool": {"tcp": {}}}


@pytest.mark.parametrize(
    ("host", "port", "more", "missing"),
    [
        ("nothing", None, (), "no Service or ServiceEntry has the host nothing"),
        ("cart", 81, (), "cart.shop.svc.cluster.local has no port 81"),
        ("cart", None, (routed(),), "no DestinationRule has the subset v1"),
        ("cart", None, (endpoints("cart", 0),), "has no ready endpoint"),
        ("bare", None, (service("bare"),), "no workload is behind bare"),
    ],
)
def test_what_is_missing(
    host: str, port: int | None, more: tuple[Object, ...], missing: str
) -> None:
    assert any(missing in text for text in told(*more, host=host, port=port)["missing"])


def test_a_source_that_is_not_there() -> None:
    assert told(source="shop/ghost")["missing"] == ["no workload or gateway is called shop/ghost"]


def test_the_narrowest_host_wins() -> None:
    wide = routed("a-wide", hosts=["*.shop.svc.cluster.local"])
    assert told(wide, routed("narrow"), RULE)["routing"]["name"] == "narrow"
    assert told(wide, RULE)["routing"]["name"] == "a-wide"


@pytest.mark.parametrize(
    ("exported", "seen"), [(["."], False), (["*"], True), ([NS], True), (["x"], False)]
)
def test_export(exported: list[str], seen: bool) -> None:
    answer = told(routed("vs", "far", exportTo=exported), RULE)
    assert (answer["routing"] is not None) is seen


def test_gateways_take_what_is_bound_to_them() -> None:
    gateway = config(kinds.GATEWAY, "g", {"selector": {"istio": "in"}}, "edge")
    bound = routed("bound", hosts=["shop.com"], gateways=["edge/g"])
    more = (gateway, bound, RULE, *deployed("in", namespace="edge", labels={"istio": "in"}))
    for source in ("edge/in", "edge/g"):
        answer = told(*more, source=source, host="shop.com")
        assert answer["routing"]["name"] == "bound"
        assert [g["name"] for g in answer["gateways"]] == ["g"]
        assert answer["missing"] == []
    # The mesh's own clients do not meet it.
    assert told(*more, host="shop.com")["routing"] is None


def test_service_entries() -> None:
    entry = config(kinds.SERVICE_ENTRY, "pay", {"hosts": ["*.pay.com"], "ports": [{"number": 443}]})
    answer = told(entry, host="api.pay.com")
    assert answer["service"]["kind"] == "ServiceEntry"
    assert answer["service"]["ports"] == [443]
    assert answer["destinations"][0]["readyEndpoints"] is None


def test_rules_are_looked_for_near_the_client_first() -> None:
    def rule(name: str, namespace: str) -> Config:
        host = "cart.shop.svc.cluster.local"
        return config(kinds.DESTINATION_RULE, name, {"host": host}, namespace)

    rules = rule("root", "istio-system"), rule("server", NS), rule("client", "far")
    for count, name in ((3, "client"), (2, "server"), (1, "root")):
        answer = told(*rules[:count], source=None, namespace="far", host="cart.shop")
        assert answer["destinations"][0]["destinationRule"]["name"] == name


def test_mutual_tls_by_the_narrowest_policy() -> None:
    def policy(name: str, mode: str, namespace: str, **more: Any) -> Config:
        return config(kinds.PEER_AUTHENTICATION, name, {"mtls": {"mode": mode}} | more, namespace)

    mesh = policy("mesh", "STRICT", "istio-system")
    own = policy("own", "DISABLE", NS, selector={"matchLabels": {"version": "v2"}})
    one, two = told(mesh, own)["destinations"][0]["workloads"]
    assert (one["mtls"]["mode"], one["mtls"]["source"]["name"]) == ("STRICT", "mesh")
    assert (two["mtls"]["mode"], two["mtls"]["source"]["name"]) == ("DISABLE", "own")


def test_clients_and_servers_that_disagree_on_tls() -> None:
    strict = config(kinds.PEER_AUTHENTICATION, "all", {"mtls": {"mode": "STRICT"}})
    missing = told(routed(), RULE, strict)["missing"]
    assert missing == [
        "cart.shop.svc.cluster.local subset v2 demands mutual TLS, clients are told DISABLE"
    ]


def test_authorization_in_its_order() -> None:
    actions = {"a": "ALLOW", "b": "DENY", "c": "CUSTOM", "d": "AUDIT"}
    policies = [
        config(kinds.AUTHORIZATION_POLICY, name, {"action": action, "rules": [{}]})
        for name, action in actions.items()
    ]
    other = config(kinds.AUTHORIZATION_POLICY, "x", {"selector": {"matchLabels": {"app": "front"}}})
    (first, _) = told(*policies, other)["destinations"][0]["workloads"]
    assert [p["action"] for p in first["authorization"]] == ["CUSTOM", "DENY", "ALLOW", "AUDIT"]


def test_ports_have_their_own_policy() -> None:
    spec = {
        "host": "cart",
        "trafficPolicy": {
            "tls": {"mode": "ISTIO_MUTUAL"},
            "portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "DISABLE"}}],
        },
    }
    rule = config(kinds.DESTINATION_RULE, "dr", spec)
    assert told(rule, port=80)["destinations"][0]["clientTls"] == "DISABLE"
    assert told(rule)["destinations"][0]["clientTls"] == "ISTIO_MUTUAL"
