"""How reports become flows: double reports, codes, bytes, security."""

from __future__ import annotations

import pytest

from services.chassis.prometheus import Sample
from services.topology.telemetry.edges import Edges
from services.topology.telemetry.quantiles import bounds_of
from services.topology.telemetry.queries import Amount
from services.topology.telemetry.tallies import Tallies, code_of
from services.topology.telemetry.traffic import Answers, Flow, FlowKey, Peer, Protocol
from tests.unit.topology.telemetry.told import (
    HOST,
    NO_DESTINATION,
    PAGE,
    REVIEWS,
    SERVICE,
    amount,
    duration,
    request,
    secured,
)

HTTP = FlowKey(PAGE, SERVICE, REVIEWS, Protocol.HTTP)
GRPC = FlowKey(PAGE, SERVICE, REVIEWS, Protocol.GRPC)
TCP = FlowKey(PAGE, SERVICE, REVIEWS, Protocol.TCP)
BOUNDS = bounds_of(["10", "20", "40"])


def tallied(
    requests: list[Sample] | None = None,
    *,
    sent: list[Sample] | None = None,
    received: list[Sample] | None = None,
    grpc_sent: list[Sample] | None = None,
    durations: list[Sample] | None = None,
    security: list[Sample] | None = None,
) -> dict[FlowKey, Flow]:
    tallies = Tallies(Edges())
    tallies.requests(requests or [])
    tallies.amounts(Amount.TCP_SENT, sent or [])
    tallies.amounts(Amount.TCP_RECEIVED, received or [])
    tallies.amounts(Amount.GRPC_SENT, grpc_sent or [])
    tallies.durations(durations or [])
    tallies.security(security or [], is_tcp=False)
    return dict(tallies.flows(BOUNDS))


def ok(rate: float) -> Answers:
    return Answers("200", "-", HOST, rate)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([request(2, "source")], [ok(2)]),
        ([request(2, "source"), request(3, "destination")], [ok(3)]),
        ([request(3, "destination"), request(2, "source")], [ok(3)]),
        ([request(3, "destination"), request(4, "waypoint"), request(2, "source")], [ok(4)]),
        ([request(0.0002, "destination")], [ok(0.0002)]),
    ],
)
def test_a_request_counts_once(reports: list[Sample], expected: list[Answers]) -> None:
    assert list(tallied(reports)[HTTP].answers) == expected


def test_what_only_the_source_saw_is_nobodys_double() -> None:
    reports = [request(3), request(4, "source"), request(1, "source", code="503", flags="UF")]
    assert tallied(reports)[HTTP].answers == (ok(3), Answers("503", "UF", HOST, 1))


def test_doubles_are_known_although_istio_told_one_of_them_wrong() -> None:
    reports = [request(3), request(4, "source", destination_cluster="unknown")]
    assert tallied(reports)[HTTP].answers == (ok(3),)


def test_reports_of_the_same_kind_add_up() -> None:
    reports = [request(3), request(4, destination_cluster="unknown")]
    assert tallied(reports)[HTTP].answers == (ok(7),)


def test_failures_before_a_workload_was_chosen_end_at_the_service() -> None:
    flows = tallied([request(1, "source", code="503", flags="UH", **NO_DESTINATION)])
    assert list(flows) == [FlowKey(PAGE, SERVICE, Peer(), Protocol.HTTP)]


@pytest.mark.parametrize(
    ("protocol", "http", "grpc", "expected"),
    [
        ("http", "200", "", "200"),
        ("http", "0", "", "-"),
        ("http", "", "", "-"),
        ("http", "200", "5", "200"),
        ("grpc", "200", "0", "0"),
        ("grpc", "200", "14", "14"),
        ("grpc", "200", "", "200"),
        ("grpc", "503", "14", "503"),
        ("grpc", "404", "12", "404"),
        ("grpc", "0", "14", "-"),
    ],
)
def test_codes(protocol: str, http: str, grpc: str, expected: str) -> None:
    assert code_of(protocol=protocol, http=http, grpc=grpc) == expected


def test_http_and_grpc_on_one_edge_are_two_flows() -> None:
    flows = tallied([request(1), request(2, protocol="grpc", grpc="0")], grpc_sent=[amount(7)])
    assert flows[HTTP].answers == (ok(1),)
    assert flows[GRPC].answers == (Answers("0", "-", HOST, 2),)
    assert flows[GRPC].sent == 7
    assert flows[HTTP].sent == 0


def test_tcp_is_named_from_the_view_of_the_source() -> None:
    assert str(Amount.TCP_SENT) == "istio_tcp_received_bytes_total"
    flow = tallied(sent=[amount(100, "source"), amount(90)], received=[amount(5, "source")])[TCP]
    assert (flow.sent, flow.received) == (90, 5)


def test_a_waypoints_requests_win_over_a_ztunnels_bytes_for_the_same_pair() -> None:
    bytes_sent = [
        amount(100, app="ztunnel"),
        amount(50, app="ztunnel", destination_workload="ratings-v1"),
    ]
    flows = tallied([request(1, "waypoint")], sent=bytes_sent)
    tcp = [key.destination.workload for key in flows if key.protocol is Protocol.TCP]
    assert tcp == ["ratings-v1"]
    assert flows[HTTP].answers == (ok(1),)


@pytest.mark.parametrize(("reporter", "app"), [("destination", "ztunnel"), ("waypoint", "db")])
def test_other_bytes_stay(reporter: str, app: str) -> None:
    flows = tallied([request(1, reporter)], sent=[amount(100, app=app)])
    assert flows[TCP].sent == 100


def test_edges_with_waypoints_say_so() -> None:
    flows = tallied(
        [request(1, "waypoint")], sent=[amount(9, app="ztunnel", destination_workload="waypoint")]
    )
    assert sorted(flow.waypoint for flow in flows.values()) == ["", "to"]


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], None),
        ([("unknown", 4.0)], None),
        ([("none", 4.0)], 0.0),
        ([("mutual_tls", 4.0)], 1.0),
        ([("mutual_tls", 3.0), ("none", 1.0), ("unknown", 7.0)], 0.75),
    ],
)
def test_the_share_of_mutual_tls(policies: list[tuple[str, float]], expected: float | None) -> None:
    security = [secured(rate, policy) for policy, rate in policies]
    assert tallied([request(1)], security=security)[HTTP].mtls_share == expected


def test_principals_are_those_of_most_requests() -> None:
    security = [
        secured(1, "mutual_tls", "spiffe://x/old", "spiffe://x/b"),
        secured(2, "mutual_tls", "spiffe://x/a", "spiffe://x/b"),
        secured(9, "none", "unknown", "unknown"),
    ]
    flow = tallied([request(1)], security=security)[HTTP]
    assert (flow.source_principal, flow.destination_principal) == ("spiffe://x/a", "spiffe://x/b")


def test_security_alone_makes_no_flow() -> None:
    assert tallied(security=[secured(1, "mutual_tls")]) == {}


def test_response_times_are_the_sources_who_waited() -> None:
    durations = [
        *(duration(b, v, "destination") for b, v in (("10", 1.0), ("count", 2.0), ("sum", 20.0))),
        *(duration(b, v) for b, v in (("20", 1.0), ("count", 2.0), ("sum", 60.0))),
    ]
    for told in (durations, durations[::-1]):
        found = tallied([request(1)], durations=told)[HTTP].response_ms
        assert found["50"] == 20
        assert found["avg"] == 30


def test_response_times_of_grpc_are_not_those_of_http() -> None:
    durations = [duration(b, v, protocol="grpc") for b, v in (("count", 1.0), ("sum", 15.0))]
    flows = tallied([request(1), request(1, protocol="grpc")], durations=durations)
    assert flows[HTTP].response_ms == {}
    assert flows[GRPC].response_ms["50"] == 15
