"""What a node says about itself: the marks of §4.5, by what is in the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Configured, Key, Proxy, Sync
from services.topology.feed.deltas import View
from tests.unit.topology.graph.clusters import (
    NS,
    PLAIN,
    UNKNOWN,
    Followed,
    called,
    config,
    deployed,
    endpoints,
    http,
    peer,
    pod,
    service,
    workload,
)

ROUTE = {"route": [{"destination": {"host": "cart"}}]}
TWO = {"route": [{"destination": {"host": "cart"}}, {"destination": {"host": "other"}}]}


def cart(*more: Config, ready: int = 1) -> Followed:
    found = Followed()
    found.put(service("cart"), endpoints("cart", ready), *deployed("cart"), *more)
    return found


def routed(*http_routes: dict[str, Any], **more: Any) -> Config:
    return config(kinds.VIRTUAL_SERVICE, "cart", {"hosts": ["cart"], "http": [*http_routes]} | more)


def rule(**more: Any) -> Config:
    return config(kinds.DESTINATION_RULE, "cart", {"host": "cart"} | more)


EJECT = {"outlierDetection": {"interval": "1s"}}


@pytest.mark.parametrize(
    ("configs", "mark"),
    [
        ([routed(ROUTE)], "hasRequestRouting"),
        ([routed(TWO)], "hasTrafficShifting"),
        ([routed(tcp=[TWO])], "hasTCPTrafficShifting"),
        ([routed(ROUTE | {"fault": {"abort": {"httpStatus": 500}}})], "hasFaultInjection"),
        ([routed(ROUTE | {"mirror": {"host": "other"}})], "hasMirroring"),
        ([routed(ROUTE | {"timeout": "1s"})], "hasRequestTimeout"),
        ([rule(trafficPolicy=EJECT)], "hasCB"),
        ([rule(trafficPolicy={"portLevelSettings": [{"connectionPool": {"tcp": {}}}]})], "hasCB"),
        ([rule(subsets=[{"name": "v9", "trafficPolicy": EJECT}])], "hasCB"),
    ],
)
def test_marks_of_routing(configs: list[Config], mark: str) -> None:
    assert mark not in cart().node("svc", NS, "cart")
    found = cart(*configs)
    assert found.node("svc", NS, "cart")[mark] is True
    found.drop(*(c.key for c in configs))
    assert mark not in found.node("svc", NS, "cart")


def test_hosts_of_virtual_services() -> None:
    by_gateway = config(
        kinds.VIRTUAL_SERVICE, "edge", {"hosts": ["shop.com"], "gateways": ["g"], "http": [ROUTE]}
    )
    found = cart(routed(ROUTE), by_gateway)
    assert found.node("svc", NS, "cart")["hasVS"] == {"hostnames": ["cart", "shop.com"]}


def test_circuit_breakers_count_for_their_version() -> None:
    found = cart(
        rule(subsets=[{"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": EJECT}])
    )
    assert "hasCB" not in found.node("vapp", NS, "cart", view=View.VERSIONED_APP)
    assert found.node("app", NS, "cart", view=View.APP)["hasCB"]
    assert "hasCB" not in found.node("wl", NS, "cart")


def test_dead() -> None:
    found = cart()
    assert "isDead" not in found.node("wl", NS, "cart")
    assert "isDead" not in found.node("svc", NS, "cart")
    found.drop(Key(kinds.POD, NS, "cart-0"))
    found.put(endpoints("cart", 0))
    assert found.node("wl", NS, "cart")["isDead"]
    assert found.node("svc", NS, "cart")["isDead"]


def test_external_names_do_not_die() -> None:
    found = Followed()
    found.put(service("away", type="ExternalName", selector={}))
    assert "isDead" not in found.node("svc", NS, "away")


def test_out_of_mesh_is_a_pod_without_proxy() -> None:
    found = cart()
    of = workload("cart")
    found.put(pod(of, 1, containers=PLAIN))
    assert found.node("wl", NS, "cart")["isOutOfMesh"]
    notes = {"ambient.istio.io/redirection": "enabled"}
    found.put(pod(of, 1, containers=PLAIN, annotations=notes, pod_annotations=notes))
    assert "isOutOfMesh" not in found.node("wl", NS, "cart")
    assert found.node("wl", NS, "cart")["isAmbient"]


def test_root_and_idle() -> None:
    found = cart()
    assert found.node("svc", NS, "cart")["isIdle"]
    found.flows(http(UNKNOWN, called("cart"), peer("cart", "cart")))
    assert "isIdle" not in found.node("svc", NS, "cart")
    assert "isRoot" not in found.node("svc", NS, "cart")
    found.flows(http(peer("cart", "cart"), called("else"), UNKNOWN))
    assert found.node("wl", NS, "cart")["isRoot"]


@pytest.mark.parametrize(
    ("label", "kind"), [("ingressgateway", "ingressInfo"), ("egressgateway", "egressInfo")]
)
def test_gateways(label: str, kind: str) -> None:
    found = Followed()
    servers = [{"hosts": ["b.com", "a.com"]}, {"hosts": ["a.com"]}]
    found.put(
        *deployed("gw", namespace="edge", labels={"istio": label}),
        config(kinds.GATEWAY, "g", {"selector": {"istio": label}, "servers": servers}),
    )
    assert found.node("wl", "edge", "gw")["isGateway"] == {kind: {"hostnames": ["a.com", "b.com"]}}
    found.put(config(kinds.GATEWAY, "g", {"selector": {"istio": label}, "servers": []}))
    assert found.node("wl", "edge", "gw")["isGateway"] == {kind: {"hostnames": []}}


def test_gateways_and_waypoints_of_the_gateway_api() -> None:
    found = Followed()
    name = "gateway.networking.k8s.io/gateway-name"
    managed = {"gateway.istio.io/managed": "istio.io-mesh-controller", name: "w"}
    found.put(
        *deployed("g-istio", labels={name: "g"}),
        *deployed("w", labels=managed),
        config(kinds.K8S_GATEWAY, "g", {"listeners": [{"hostname": "a.com"}]}),
    )
    gateway = found.node("wl", NS, "g-istio")
    assert gateway["isGateway"] == {"gatewayAPIInfo": {"hostnames": ["a.com"]}}
    assert gateway["isK8sGatewayAPI"]
    assert found.node("wl", NS, "w")["isWaypoint"]


def test_workload_entries() -> None:
    found = cart()
    found.put(config(kinds.WORKLOAD_ENTRY, "vm", {"labels": {"app": "cart", "version": "v1"}}))
    assert found.node("wl", NS, "cart")["hasWorkloadEntry"] == [{"name": "vm"}]
    found.put(config(kinds.WORKLOAD_ENTRY, "vm", {"labels": {"app": "cart", "version": "v2"}}))
    assert "hasWorkloadEntry" not in found.node("wl", NS, "cart")
    assert found.node("app", NS, "cart", view=View.APP)["hasWorkloadEntry"] == [{"name": "vm"}]


def names(found: Followed, *node: str) -> list[str]:
    return [f"{c['kind']} {c['name']}" for c in found.node(*node).get("configs", ())]


def test_configuration_that_acts_on_a_workload() -> None:
    mine = {"selector": {"matchLabels": {"app": "cart"}}}
    found = cart(
        config(kinds.AUTHORIZATION_POLICY, "mine", mine),
        config(kinds.AUTHORIZATION_POLICY, "not", {"selector": {"matchLabels": {"app": "x"}}}),
        config(kinds.AUTHORIZATION_POLICY, "root", mine, "istio-system"),
        config(kinds.PEER_AUTHENTICATION, "all", {}, "istio-system"),
        config(kinds.PEER_AUTHENTICATION, "root", mine, "istio-system"),
        config(kinds.PEER_AUTHENTICATION, "else", {}, "elsewhere"),
        config(kinds.TELEMETRY, "space", {}),
        config(kinds.SIDECAR, "s", {"workloadSelector": {"labels": {"app": "cart"}}}),
        config(kinds.ENVOY_FILTER, "f", {}),
    )
    assert names(found, "wl", NS, "cart") == [
        "EnvoyFilter f",
        "Sidecar s",
        "AuthorizationPolicy root",
        "AuthorizationPolicy mine",
        "PeerAuthentication all",
        "Telemetry space",
    ]
    root = {"mesh": {"rootNamespace": "elsewhere"}}
    found.put(config(kinds.CONFIG_MAP, "istio", root, "istio-system"))
    assert names(found, "wl", NS, "cart") == [
        "EnvoyFilter f",
        "Sidecar s",
        "AuthorizationPolicy mine",
        "PeerAuthentication else",
        "Telemetry space",
    ]


def test_configuration_that_acts_on_a_service() -> None:
    found = cart(
        routed(ROUTE),
        rule(),
        config(kinds.DESTINATION_RULE, "wide", {"host": "*.shop.svc.cluster.local"}),
        config(kinds.DESTINATION_RULE, "other", {"host": "other"}),
        config(
            kinds.AUTHORIZATION_POLICY, "p", {"targetRefs": [{"kind": "Service", "name": "cart"}]}
        ),
    )
    assert names(found, "svc", NS, "cart") == [
        "DestinationRule cart",
        "DestinationRule wide",
        "VirtualService cart",
        "AuthorizationPolicy p",
    ]
    assert "AuthorizationPolicy p" not in names(found, "wl", NS, "cart")


def test_pods_without_an_owner_are_workloads() -> None:
    found = Followed()
    bare = replace(pod(workload("lonely", "x")), owner=None)
    job = replace(pod(workload("jobs", "y"), 1), owner=Key("batch/Job", NS, "nightly-28391234"))
    found.put(bare, job)
    assert found.node("wl", NS, "lonely-0")["app"] == "x"
    assert found.node("wl", NS, "nightly")["app"] == "y"
    found.put(replace(job, phase="Succeeded"))
    assert len(found.nodes()) == 1


def test_changes_that_show_nowhere_tell_nothing() -> None:
    found = cart()
    of = workload("cart")
    assert not found.put(pod(of, 0, is_ready=False))
    assert not found.put(pod(of, 0, ip="10.0.0.9"))
    assert not found.put(replace(service("cart"), cluster_ip="10.0.0.1"))
    assert not found.put(endpoints("cart", 3))


def test_a_change_tells_what_it_touches_alone() -> None:
    found = cart()
    found.put(service("other"), *deployed("other"))
    parts = found.put(workload("other", ready=0))
    told = {item["nodeType"] for items in parts.values() for item in items.values() if item}
    assert {part: len(items) for part, items in parts.items()} == {
        "app.nodes": 1,
        "versionedApp.nodes": 1,
        "workload.nodes": 1,
    }
    assert told == {"app", "workload"}


def test_a_node_tells_which_of_its_proxies_do_not_stand_well() -> None:
    found = cart()
    name, other = "cart-0", "cart-1"
    found.put(pod(workload("cart"), 1), proxy(name, Sync.SYNCED), proxy(other, Sync.REJECTED))
    for view in (View.WORKLOAD, View.APP):
        assert node_of(found, view)["proxyStatus"] == {"rejected": 1}
        assert node_of(found, view)["healthData"]["status"] == "Degraded"
    assert synced(found) == 1
    found.put(proxy(name, Sync.STALE))
    assert node_of(found, View.WORKLOAD)["proxyStatus"] == {"rejected": 1, "stale": 1}
    # What the graph does not show makes no node anew.
    assert not found.put(proxy(name, Sync.STALE, version="1.31.1"))
    found.put(proxy(name, Sync.SYNCED), proxy(other, Sync.SYNCED))
    assert "proxyStatus" not in node_of(found, View.WORKLOAD)
    assert node_of(found, View.WORKLOAD)["healthData"]["status"] == "Healthy"
    assert synced(found) == 2
    found.drop(Key(kinds.PROXY, NS, name), Key(kinds.PROXY, NS, other))
    assert synced(found) == -1


def synced(found: Followed) -> int:
    status = node_of(found, View.WORKLOAD)["healthData"]["workloadStatus"]
    return int(status["syncedProxies"])


def proxy(pod_name: str, sync: Sync, **more: Any) -> Proxy:
    configured = (Configured("CDS", sync),)
    return Proxy(key=Key(kinds.PROXY, NS, pod_name), configured=configured, **more)


def node_of(found: Followed, view: View) -> dict[str, Any]:
    form = "app" if view is View.APP else "wl"
    return found.node(form, NS, "cart", view=view)
