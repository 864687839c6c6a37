"""Whose proxy it is."""

from __future__ import annotations

from typing import Any

import pytest

from services.topology.cluster import kinds
from services.topology.cluster.objects import Container, Key, Pod
from services.topology.cluster.state import State
from services.topology.telemetry.identities import peer_of_node, proxied_pods, waypoints_of
from services.topology.telemetry.traffic import Peer
from tests.unit.topology.analysis.kia.cases import deployment, state_of

PROXY = Container("istio-proxy")
LABELS = {"app": "page", "version": "v1"}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (
            {"id": "sidecar~10.0.0.1~page-7c-x.shop~shop.svc.cluster.local"},
            Peer("", "shop", "page-7c-x", "page-7c-x"),
        ),
        (
            {
                "id": "sidecar~10.0.0.1~page-7c-x.shop~shop.svc.cluster.local",
                "metadata": {
                    "NAMESPACE": "shop",
                    "NAME": "page-7c-x",
                    "WORKLOAD_NAME": "page-v1",
                    "CLUSTER_ID": "east",
                    "LABELS": LABELS,
                },
            },
            Peer("east", "shop", "page-v1", "page", "v1"),
        ),
        (
            {
                "id": "router~10.0.0.1~edge-1.mesh~mesh.svc.cluster.local",
                "metadata": {"OWNER": "kubernetes://apis/apps/v1/namespaces/mesh/deployments/edge"},
            },
            Peer("", "mesh", "edge", "edge"),
        ),
        (
            {
                "id": "x",
                "metadata": {"LABELS": {"service.istio.io/canonical-name": "a", "app": "b"}},
            },
            Peer("", "", "", "a"),
        ),
        ({}, Peer()),
    ],
)
def test_peers_of_nodes(node: dict[str, Any], expected: Peer) -> None:
    assert peer_of_node({"node": node}) == expected


def pod(name: str, **changed: Any) -> Pod:
    known: dict[str, Any] = {
        "key": Key(kinds.POD, "shop", name),
        "uid": f"uid-{name}",
        "labels": LABELS,
        "pod_labels": LABELS,
        "containers": (PROXY,),
        "phase": "Running",
        "owner": Key(kinds.DEPLOYMENT, "shop", "page-v1"),
    }
    return Pod(**{**known, **changed})


def test_pods_with_a_running_proxy_are_asked() -> None:
    state = State("token")
    for one in (
        pod("page"),
        pod("plain", containers=(Container("app"),)),
        pod("pending", phase="Pending"),
        pod("going", is_terminating=True),
    ):
        state.put(one)
    (found,) = proxied_pods(state, cluster="east")
    assert (found.namespace, found.name, found.uid) == ("shop", "page", "uid-page")
    assert found.peer == Peer("east", "shop", "page-v1", "page", "v1")


def test_a_pod_of_its_own_is_its_own_workload() -> None:
    state = State("token")
    state.put(pod("alone", owner=None, labels={}, pod_labels={}))
    (found,) = proxied_pods(state)
    assert found.peer == Peer("", "shop", "alone", "alone")


def test_waypoints_are_known_by_what_istiod_labels_them() -> None:
    labels = "{gateway.istio.io/managed: istio.io-mesh-controller}"
    state, _ = state_of(deployment("canary", labels) + deployment("no-waypoint"))
    is_waypoint = waypoints_of(state)
    assert is_waypoint(Peer(namespace="default", workload="canary"))
    # Whatever it is called.
    assert not is_waypoint(Peer(namespace="default", workload="no-waypoint"))
    # Of another cluster only the name is known.
    assert is_waypoint(Peer(namespace="elsewhere", workload="shop-waypoint"))
    assert not is_waypoint(Peer(namespace="elsewhere", workload="canary"))
