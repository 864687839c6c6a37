"""Flows out of proxies' counters, whatever kind of counters they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.chassis.errors import TelemetryUnavailable
from services.topology.telemetry.clusters import called_of
from services.topology.telemetry.envoy import EnvoyTelemetry, Reading, Readings
from services.topology.telemetry.stats import OfCluster, OfEdge, Stats
from services.topology.telemetry.traffic import (
    Answers,
    Called,
    Flow,
    FlowKey,
    Peer,
    Protocol,
    Telemetry,
)
from tests.unit.topology.telemetry.told import AT, HOST, PAGE, REVIEWS, SERVICE, text

EDGE = Peer("Kubernetes", "mesh", "edge-1", "edge")
RATINGS = Peer("Kubernetes", "shop", "ratings-v1", "ratings", "v1")
REQUESTS = "istio_requests_total"


@dataclass
class Proxies:
    """Gives one list of readings after the other."""

    rounds: list[Sequence[Reading]]
    missing: Sequence[str] = ()
    now_s: float = field(default=0.0)

    def clock(self) -> float:
        return self.now_s

    async def readings(self) -> Readings:
        self.now_s += 10
        return Readings(self.rounds.pop(0) if self.rounds else [], self.missing)


def reading(peer: Peer, counters: Mapping[Any, float], *bounds: str) -> Reading:
    return Reading(peer.workload, peer, Stats(counters, frozenset(bounds)))


def of(cluster: str, detail: str, *, what: str = "upstream_rq") -> OfCluster:
    return OfCluster(cluster, what, detail)


async def flows_of(*rounds: Sequence[Reading]) -> dict[FlowKey, Flow]:
    proxies = Proxies(list(rounds))
    telemetry: Telemetry = EnvoyTelemetry(proxies, clock=proxies.clock)
    for _ in rounds[1:]:
        await telemetry.flows(at=AT, window_s=60)
    return dict(await telemetry.flows(at=AT, window_s=60))


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (f"outbound|80||{HOST}", Called("", "shop", "reviews", HOST)),
        (f"outbound|80|v2|{HOST}", Called("", "shop", "reviews", HOST)),
        (f"outbound_.80_.v2_.{HOST}", Called("", "shop", "reviews", HOST)),
        (f"inbound-vip|80|http|{HOST}", Called("", "shop", "reviews", HOST)),
        ("outbound|443||api.example.com", Called("", "", "api.example.com", "api.example.com")),
        ("PassthroughCluster", Called(name="PassthroughCluster")),
        ("BlackHoleCluster", Called(name="BlackHoleCluster")),
        ("inbound|9080||", None),
        ("xds-grpc", None),
        ("agent", None),
        ("outbound_.80", None),
    ],
)
def test_what_a_cluster_leads_to(cluster: str, expected: Called | None) -> None:
    assert called_of(cluster) == expected


async def test_clusters_of_one_service_are_one_edge_that_ends_at_it() -> None:
    clusters = [f"outbound|80|{subset}|{HOST}" for subset in ("", "v2")]
    before = {of(cluster, "200"): 100.0 for cluster in clusters}
    after = {of(cluster, "200"): 130.0 for cluster in clusters} | {of(clusters[0], "503"): 5.0}
    found = await flows_of([reading(EDGE, before)], [reading(EDGE, after)])
    ((key, flow),) = found.items()
    assert key == FlowKey(EDGE, SERVICE, Peer(), Protocol.HTTP)
    assert flow.answers == (Answers("200", "-", HOST, 6), Answers("503", "-", HOST, 0.5))


async def test_bytes_without_requests_are_tcp() -> None:
    cluster = f"outbound|3306||{HOST}"
    after = {
        of(cluster, "", what="upstream_cx_tx_bytes_total"): 100.0,
        of(cluster, "", what="upstream_cx_rx_bytes_total"): 4000.0,
    }
    found = await flows_of([reading(EDGE, {})], [reading(EDGE, after)])
    ((key, flow),) = found.items()
    assert key.protocol is Protocol.TCP
    assert (flow.sent, flow.received) == (10, 400)


async def test_incoming_requests_have_an_unknown_source() -> None:
    found = await flows_of(
        [reading(RATINGS, {})], [reading(RATINGS, {of("inbound|9080||", "200"): 20.0})]
    )
    assert list(found) == [FlowKey(Peer(), Called(), RATINGS, Protocol.HTTP)]


async def test_incoming_requests_that_a_caller_tells_are_not_told_twice() -> None:
    reviews = Peer("Kubernetes", "shop", "reviews-v2", "reviews", "v2")
    found = await flows_of(
        [reading(EDGE, {}), reading(reviews, {})],
        [
            reading(EDGE, {of(f"outbound|80||{HOST}", "200"): 20.0}),
            reading(reviews, {of("inbound|9080||", "200"): 20.0}),
        ],
    )
    assert list(found) == [FlowKey(EDGE, SERVICE, Peer(), Protocol.HTTP)]


async def test_response_times_are_those_between_the_readings() -> None:
    cluster = f"outbound|80||{HOST}"
    old = {of(cluster, b, what="upstream_rq_time"): 50.0 for b in ("25", "50", "100", "count")}
    old[of(cluster, "sum", what="upstream_rq_time")] = 1000.0
    old[of(cluster, "200")] = 50.0
    new = {
        of(cluster, "25", what="upstream_rq_time"): 50.0,
        of(cluster, "50", what="upstream_rq_time"): 60.0,
        of(cluster, "100", what="upstream_rq_time"): 60.0,
        of(cluster, "count", what="upstream_rq_time"): 60.0,
        of(cluster, "sum", what="upstream_rq_time"): 1380.0,
        of(cluster, "200"): 60.0,
    }
    bounds = ("10", "25", "50", "100")
    found = await flows_of([reading(EDGE, old, *bounds)], [reading(EDGE, new, *bounds)])
    (flow,) = found.values()
    assert flow.response_ms == pytest.approx({"avg": 38.0, "50": 37.5, "95": 48.75, "99": 49.75})


async def test_istios_counters_tell_both_ends_and_clusters_are_left_out() -> None:
    counted: dict[OfCluster | OfEdge, float] = {
        OfEdge(REQUESTS, text(), "source|http|200||-"): 30.0,
        OfEdge("istio_request_duration_milliseconds", text(), "source|http", "25"): 30.0,
        OfEdge("istio_request_duration_milliseconds", text(), "source|http", "count"): 30.0,
        OfEdge("istio_request_duration_milliseconds", text(), "source|http", "sum"): 600.0,
        of(f"outbound|80||{HOST}", "200"): 30.0,
    }
    served: dict[OfCluster | OfEdge, float] = {
        OfEdge(REQUESTS, text(), "destination|http|200||-"): 29.0,
        OfEdge(f"security of {REQUESTS}", text(), "http|mutual_tls|spiffe://a|spiffe://b"): 29.0,
    }
    bounds = ("10", "25")
    found = await flows_of(
        [reading(PAGE, {}, *bounds), reading(REVIEWS, {}, *bounds)],
        [reading(PAGE, counted, *bounds), reading(REVIEWS, served, *bounds)],
    )
    ((key, flow),) = found.items()
    assert key == FlowKey(PAGE, SERVICE, REVIEWS, Protocol.HTTP)
    assert flow.answers == (Answers("200", "-", HOST, 2.9),)
    assert flow.mtls_share == 1
    assert flow.response_ms["50"] == 17.5
    assert flow.response_ms["avg"] == 20


async def test_proxies_that_went_are_not_told_any_more() -> None:
    after = [reading(EDGE, {of(f"outbound|80||{HOST}", "200"): 20.0})]
    assert await flows_of([reading(EDGE, {})], after, []) == {}


async def test_some_proxies_that_fail_are_missing() -> None:
    proxies = Proxies([[reading(EDGE, {})]], missing=["the proxy of shop/a is away"])
    telemetry = EnvoyTelemetry(proxies, clock=proxies.clock)
    assert await telemetry.flows(at=AT, window_s=60) == {}
    assert telemetry.missing == ("the proxy of shop/a is away",)


async def test_no_proxy_at_all_that_can_be_read_is_an_error() -> None:
    proxies = Proxies([], missing=["the proxy of shop/a is away"])
    with pytest.raises(TelemetryUnavailable) as refused:
        await EnvoyTelemetry(proxies, clock=proxies.clock).flows(at=AT, window_s=60)
    assert refused.value.cause == "the proxy of shop/a is away"


async def test_a_mesh_without_proxies_has_no_flows() -> None:
    assert await EnvoyTelemetry().flows(at=AT, window_s=60) == {}
