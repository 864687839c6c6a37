"""Which edge a report is about, rule by rule."""

from __future__ import annotations

import pytest

from services.topology.telemetry.edges import Edges, is_named_waypoint
from services.topology.telemetry.traffic import Called, Peer, Protocol
from tests.unit.topology.telemetry.told import (
    HOST,
    NO_DESTINATION,
    NO_SOURCE,
    PAGE,
    REVIEWS,
    SERVICE,
    text,
)

EGRESS = "istio-egressgateway.mesh-out.svc.cluster.local"
PASSTHROUGH = {
    **NO_DESTINATION,
    "destination_cluster": "unknown",
    "destination_service_namespace": "unknown",
    "destination_service_name": "PassthroughCluster",
    "destination_service": "api.example.com",
}


def ends(**changed: str) -> tuple[Peer, Called, Peer]:
    edge = Edges().of[text(**changed)]
    assert edge is not None
    key = edge.keys[0]
    return key.source, key.called, key.destination


def test_both_ends_and_the_service_are_known() -> None:
    assert ends() == (PAGE, SERVICE, REVIEWS)


def test_there_is_a_key_for_each_protocol() -> None:
    edge = Edges().of[text()]
    assert edge is not None
    assert [key.protocol for key in edge.keys] == list(Protocol)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param(NO_SOURCE, (Peer(), SERVICE, REVIEWS), id="unknown source"),
        pytest.param(
            {**NO_SOURCE, "source_cluster": "east"},
            (Peer("east"), SERVICE, REVIEWS),
            id="unknown source in a known cluster",
        ),
        pytest.param(NO_DESTINATION, (PAGE, SERVICE, Peer()), id="unknown workload"),
        pytest.param(
            {**NO_DESTINATION, "destination_service_name": "unknown", "destination_service": ""},
            (PAGE, Called("Kubernetes", "shop"), Peer()),
            id="unknown service of a namespace",
        ),
        pytest.param(
            {"destination_cluster": "west"},
            (
                PAGE,
                Called("west", "shop", "reviews", HOST),
                Peer("west", "shop", "reviews-v2", "reviews", "v2"),
            ),
            id="other cluster",
        ),
        pytest.param(
            {"destination_cluster": "unknown"},
            (PAGE, SERVICE, REVIEWS),
            id="unknown cluster of a known service is the source's",
        ),
        pytest.param(
            {**NO_SOURCE, "destination_service_name": "reviews.books.global"},
            (Peer(), Called("Kubernetes", "books", "reviews", HOST), REVIEWS),
            id="called by another cluster",
        ),
        pytest.param(
            {"destination_service_name": "reviews.books.global"},
            (PAGE, Called("Kubernetes", "shop", "reviews.books.global", HOST), REVIEWS),
            id="a host of another cluster that somebody here calls",
        ),
        pytest.param(
            {
                **NO_DESTINATION,
                "destination_cluster": "unknown",
                "destination_service_namespace": "shop",
                "destination_service_name": EGRESS,
                "destination_service": EGRESS,
            },
            (
                PAGE,
                Called("Kubernetes", "mesh-out", "istio-egressgateway", EGRESS),
                Peer(
                    "Kubernetes", "mesh-out", "istio-egressgateway", "istio-egressgateway", "latest"
                ),
            ),
            id="egress gateway",
        ),
        pytest.param(
            PASSTHROUGH, (PAGE, Called(name="PassthroughCluster"), Peer()), id="passthrough"
        ),
        pytest.param(
            {**PASSTHROUGH, "destination_service_name": "BlackHoleCluster"},
            (PAGE, Called(name="BlackHoleCluster"), Peer()),
            id="black hole",
        ),
        pytest.param(
            {
                **NO_DESTINATION,
                "destination_cluster": "",
                "destination_service_namespace": "",
                "destination_service_name": "api.example.com",
                "destination_service": "api.example.com",
            },
            (PAGE, Called("", "", "api.example.com", "api.example.com"), Peer()),
            id="external host",
        ),
    ],
)
def test_ends(changed: dict[str, str], expected: tuple[Peer, Called, Peer]) -> None:
    assert ends(**changed) == expected


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(
            {"source_workload": "unknown", "source_canonical_service": "unknown"},
            id="source namespace without anybody in it",
        ),
        pytest.param({"source_cluster": "unknown"}, id="known source in an unknown cluster"),
        pytest.param(
            {**NO_SOURCE, "destination_cluster": "unknown"}, id="known service in unknown cluster"
        ),
        *(
            pytest.param(
                {
                    **NO_DESTINATION,
                    "destination_service_name": address,
                    "destination_service": address,
                },
                id=f"service is {address}",
            )
            for address in ("10.1.2.3", "10.1.2.3:8080", "fd00::7", "[fd00::7]:80")
        ),
        pytest.param({"destination_service": "a|b"}, id="host with a separator"),
    ],
)
def test_bad_telemetry_is_dropped(changed: dict[str, str]) -> None:
    assert Edges().of[text(**changed)] is None


def test_a_service_that_is_an_address_counts_when_its_workload_is_known() -> None:
    named = {"destination_service_name": "10.1.2.3", "destination_service": "10.1.2.3"}
    assert ends(**named)[1].name == "10.1.2.3"


def test_missing_cluster_labels_are_no_mistake() -> None:
    source, called, _ = ends(source_cluster="", destination_cluster="")
    assert (source.cluster, called.cluster) == ("", "")


def test_hosts_of_the_same_passthrough_are_one_edge() -> None:
    edges = Edges()
    one, other = (
        edges.of[text(**{**PASSTHROUGH, "destination_service": host})] for host in ("a.b", "c.d")
    )
    assert one is not None
    assert other is not None
    assert one.number == other.number
    assert (one.host, other.host) == ("a.b", "c.d")


def test_the_same_edge_told_differently_has_one_number() -> None:
    edges = Edges()
    one, other = edges.of[text()], edges.of[text(destination_cluster="unknown")]
    assert one is not None
    assert other is not None
    assert one.number == other.number


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"destination_workload": "waypoint"}, "to"),
        ({"source_workload": "reviews-waypoint"}, "from"),
        ({"source_workload": "waypoints"}, ""),
    ],
)
def test_waypoints_are_known_by_name(changed: dict[str, str], expected: str) -> None:
    edge = Edges(is_named_waypoint).of[text(**changed)]
    assert edge is not None
    assert edge.waypoint == expected


def test_who_knows_waypoints_better_is_asked() -> None:
    edge = Edges(lambda peer: peer == REVIEWS).of[text()]
    assert edge is not None
    assert edge.waypoint == "to"
