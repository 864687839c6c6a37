"""What correlation asks and what it makes of the answers, mesh by mesh.

The answers are scripted here; tests/real/perf/test_prometheus.py has a real Prometheus give them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest

from services.chassis.prometheus import MetricsError, Sample
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.measurements import Measurement, TargetResult
from services.perf.measurements.tallies import Tally
from services.perf.telemetry.correlation import correlate
from services.perf.telemetry.verdicts import Confidence, Place, Verdict

START = datetime(2026, 9, 1, 12, tzinfo=timezone.utc)
END = START + timedelta(seconds=90)
REQUESTS = "istio_requests_total"
DURATIONS = "istio_request_duration_milliseconds"
UPSTREAM = "envoy_cluster_upstream_rq_time"
DOWNSTREAM = "envoy_http_downstream_rq_time"
CART = "cart.shop.svc.cluster.local"
METRIC = "meshbus_metric"


@dataclass(slots=True)
class Answers:
    """A Prometheus that knows these metrics; a query is known by the first metric that it names."""

    samples: Mapping[str, Sequence[Sample]]
    names: Sequence[str] = ()
    scrapes: float = 6
    failing: str = ""
    asked: list[tuple[str, datetime]] = field(default_factory=list)

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        self.asked.append((text, at))
        if text.startswith("count by (__name__)"):
            pattern = re.compile(text.partition('=~"')[2].partition('"')[0])
            known = {*self.names, *self.samples}
            return [Sample({"__name__": n}, 1) for n in sorted(known) if pattern.fullmatch(n)]
        if self.failing and self.failing in text:
            raise MetricsError("Prometheus refused the query: too many samples")
        if text.startswith("quantile"):
            return [Sample({}, self.scrapes)]
        for name, samples in self.samples.items():
            if re.search(rf"\b{name.removesuffix('_count')}(?:_bucket)?[\[{{ ]", text):
                return list(samples)
        return []


def measured(
    ms: float, *, requests: int = 100, late_ms: float = 0, service: str = "cart.shop"
) -> Measurement:
    tally = Tally()
    for _ in range(requests):
        tally.request(
            at_s=0,
            duration_us=round(ms * 1000),
            late_us=round(late_ms * 1000),
            code="200",
            is_ok=True,
        )
    url = "http://gateway.example:8080/cart?token=secret"
    return Measurement(
        run="r1",
        generator=GeneratorName.FORTIO,
        protocol=Protocol.HTTP1,
        service=service,
        started=START,
        duration_s=90,
        requested_duration_s=90,
        requested_rate=0,
        connections=8,
        workers=1,
        targets=[TargetResult(url=url, weight=1, tally=tally.message())],
        tally=tally.message(),
    )


async def judged(answers: Answers, measurement: Measurement) -> Verdict:
    return await correlate(answers, measurement=measurement, window=(START, END))


def ends(
    reporter: str,
    *,
    source: str = "gateway",
    destination: str = "cart-v1",
    service: str = CART,
) -> dict[str, str]:
    labels = {
        "reporter": reporter,
        "source_workload": source,
        "source_workload_namespace": "shop",
        "destination_workload": destination,
        "destination_workload_namespace": "shop",
        "destination_service": service,
    }
    return {name: value for name, value in labels.items() if value}


def counted(labels: dict[str, str], count: float, *, code: str = "200", flags: str = "-") -> Sample:
    return Sample({**labels, "response_code": code, "response_flags": flags}, count)


def timed(labels: dict[str, str], *, count: float, ms: float) -> list[Sample]:
    """A histogram of which all values are the same."""
    bounds = (1.0, 10.0, 100.0, 1000.0)
    buckets = [Sample({**labels, "le": f"{b:g}"}, count * (ms <= b)) for b in bounds]
    return [
        *buckets,
        Sample({**labels, "le": "+Inf"}, count),
        Sample({**labels, "le": "sum"}, count * ms),
    ]


def mesh(
    *seen: tuple[dict[str, str], float, float], more: Mapping[str, Sequence[Sample]] | None = None
) -> Answers:
    """Istio's metrics of edges, each with its count and mean; and other metrics."""
    requests = [counted(labels, count) for labels, count, _ in seen]
    durations = [s for labels, count, ms in seen for s in timed(labels, count=count, ms=ms)]
    return Answers({REQUESTS: requests, f"{DURATIONS}_count": durations, **(more or {})})


def places(verdict: Verdict) -> list[tuple[Place, float]]:
    return [(share.place, share.ms) for share in verdict.shares]


# --- sidecars -----------------------------------------------------------------------------------


async def test_sidecars_split_client_source_and_application() -> None:
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50))
    verdict = await judged(answers, measured(62))
    assert places(verdict) == [
        (Place.CLIENT, 2),
        (Place.SOURCE_PROXY, 10),
        (Place.APPLICATION, 50),
    ]
    assert (verdict.place, verdict.confidence) == (Place.APPLICATION, Confidence.MEDIUM)
    assert verdict.scrapes == 6
    (edge,) = verdict.edges
    assert (edge.source, edge.destination, edge.service) == ("gateway.shop", "cart-v1.shop", CART)
    assert [(one.reporter, one.p50_ms) for one in edge.latencies] == [
        ("source", 55),
        ("destination", 55),
    ]


async def test_an_inbound_cluster_tells_the_destinations_proxy_from_the_application() -> None:
    def inbound(pod: str, ms: float) -> list[Sample]:
        labels = {"cluster_name": "inbound|8080||", "pod": pod, METRIC: f"{UPSTREAM}_count"}
        return timed(labels, count=100, ms=ms)

    more = {f"{UPSTREAM}_count": [*inbound("cart-v1-5d9-x", 5), *inbound("other-1", 900)]}
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 58), more=more)
    verdict = await judged(answers, measured(62))
    assert places(verdict)[2:] == [(Place.DESTINATION_PROXY, 53), (Place.APPLICATION, 5)]
    assert (verdict.place, verdict.confidence) == (Place.DESTINATION_PROXY, Confidence.HIGH)


async def test_versions_behind_one_service_count_together() -> None:
    answers = mesh(
        (ends("source", destination="cart-v1"), 75, 40),
        (ends("source", destination="cart-v2"), 25, 80),
        (ends("destination", destination="cart-v1"), 75, 10),
        (ends("destination", destination="cart-v2"), 25, 50),
    )
    verdict = await judged(answers, measured(50))
    assert places(verdict) == [(Place.CLIENT, 0), (Place.SOURCE_PROXY, 30), (Place.APPLICATION, 20)]
    assert len(verdict.edges) == 2


async def test_other_callers_of_the_service_are_not_the_run() -> None:
    outside = ends("destination", source="unknown")
    answers = mesh(
        (outside, 100, 30),
        (ends("source", source="batch"), 20, 900),
        (ends("destination", source="batch"), 20, 890),
    )
    verdict = await judged(answers, measured(33))
    assert places(verdict) == [(Place.CLIENT, 3), (Place.APPLICATION, 30)]
    assert {edge.source for edge in verdict.edges} == {"unknown", "batch.shop"}


async def test_calls_of_the_application_are_told_with_their_share() -> None:
    stock = ends("source", source="cart-v1", destination="stock", service="stock.shop.svc")
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50), (stock, 200, 20))
    verdict = await judged(answers, measured(61))
    (calls,) = [one for one in verdict.evidence if "stock.shop.svc" in one.text]
    assert "2.00 calls to stock.shop.svc for each request, 40.0 ms together" in calls.text
    assert calls.value == 40
    assert calls.query
    assert [edge.service for edge in verdict.edges] == ["stock.shop.svc", CART]


async def test_a_source_alone_names_no_place_behind_the_client() -> None:
    verdict = await judged(mesh((ends("source"), 100, 60)), measured(62))
    assert (verdict.place, verdict.confidence) == (Place.UNKNOWN, Confidence.LOW)
    assert "the application behind it, which these metrics cannot tell apart" in verdict.reason


async def test_a_gateways_clusters_tell_its_own_part() -> None:
    labels = {"cluster_name": f"outbound|80||{CART}", METRIC: f"{UPSTREAM}_count"}
    other = {"cluster_name": "outbound|80||cart.shopping.svc", METRIC: f"{UPSTREAM}_count"}
    more = {
        f"{UPSTREAM}_count": [*timed(labels, count=100, ms=6), *timed(other, count=100, ms=900)]
    }
    verdict = await judged(mesh((ends("source"), 100, 60), more=more), measured(62))
    assert places(verdict) == [(Place.CLIENT, 2), (Place.SOURCE_PROXY, 54), (Place.APPLICATION, 6)]
    assert (verdict.place, verdict.confidence) == (Place.SOURCE_PROXY, Confidence.HIGH)


# --- ambient ------------------------------------------------------------------------------------


async def test_a_ztunnel_alone_says_that_a_waypoint_is_needed() -> None:
    answers = Answers({}, names=["istio_tcp_connections_opened_total"])
    verdict = await judged(answers, measured(62))
    assert (verdict.place, verdict.confidence) == (Place.UNKNOWN, Confidence.LOW)
    assert verdict.shares == []
    assert any("as ztunnels do; a waypoint would" in text for text in verdict.missing)


async def test_a_waypoint_alone_splits_off_the_client_only() -> None:
    waypoint = ends("waypoint", source="unknown")
    verdict = await judged(mesh((waypoint, 100, 60)), measured(62))
    assert places(verdict) == [(Place.CLIENT, 2), (Place.UNKNOWN, 60)]
    assert (verdict.place, verdict.confidence) == (Place.UNKNOWN, Confidence.LOW)
    slow = await judged(mesh((waypoint, 100, 5)), measured(62))
    assert (slow.place, slow.confidence) == (Place.CLIENT, Confidence.MEDIUM)


async def test_a_waypoints_clusters_tell_its_own_part() -> None:
    labels = {"cluster_name": f"inbound-vip|80|http|{CART}", METRIC: f"{UPSTREAM}_count"}
    more = {f"{UPSTREAM}_count": timed(labels, count=100, ms=6)}
    answers = mesh((ends("source"), 100, 61), (ends("waypoint"), 100, 60), more=more)
    verdict = await judged(answers, measured(62))
    assert places(verdict) == [
        (Place.CLIENT, 1),
        (Place.SOURCE_PROXY, 1),
        (Place.DESTINATION_PROXY, 54),
        (Place.APPLICATION, 6),
    ]
    assert verdict.place is Place.DESTINATION_PROXY


async def test_a_waypoint_may_know_the_caller_by_another_name() -> None:
    answers = mesh((ends("source"), 100, 40), (ends("waypoint", source="unknown"), 100, 10))
    verdict = await judged(answers, measured(41))
    assert places(verdict) == [(Place.CLIENT, 1), (Place.SOURCE_PROXY, 30), (Place.UNKNOWN, 10)]


# --- an Envoy without Istio's telemetry ---------------------------------------------------------


def ingress(*, rest: str = "", cluster: str = f"outbound|80||{CART}") -> Answers:
    """Envoy's own statistics; `rest` is what a vanilla Envoy puts into the metrics' names."""
    target = {"job": "envoy", "instance": "e:15090"}
    up, down = f"envoy_cluster_{rest}upstream_rq_time_count", f"{DOWNSTREAM}_count"
    codes = f"envoy_cluster_{rest}upstream_rq"
    of_cluster = {**target, "envoy_cluster_name": cluster}

    def listener(prefix: str, ms: float) -> list[Sample]:
        labels = {**target, "envoy_http_conn_manager_prefix": prefix, METRIC: down}
        return timed(labels, count=100, ms=ms)

    return Answers(
        {
            down: [
                *listener("outbound_0.0.0.0_8080", 60),
                *listener("outbound_0.0.0.0_9999", 3),
                *listener("admin", 1),
            ],
            up: timed({**of_cluster, METRIC: up}, count=100, ms=6),
            codes: [
                Sample({**of_cluster, METRIC: codes, "envoy_response_code": "200"}, 90),
                Sample({**of_cluster, METRIC: codes, "envoy_response_code": "503"}, 10),
            ],
        }
    )


@pytest.mark.parametrize(
    ("rest", "cluster"),
    [
        ("", f"outbound|80||{CART}"),
        ("", f"outbound|80|v1|{CART};"),
        ("shop_svc_cluster_local__", "outbound|80||cart"),
    ],
)
async def test_envoys_own_statistics_stand_in(rest: str, cluster: str) -> None:
    verdict = await judged(ingress(rest=rest, cluster=cluster), measured(62))
    assert places(verdict) == [(Place.CLIENT, 2), (Place.SOURCE_PROXY, 54), (Place.APPLICATION, 6)]
    assert (verdict.place, verdict.confidence) == (Place.SOURCE_PROXY, Confidence.HIGH)
    (edge,) = verdict.edges
    assert (edge.requests, edge.errors) == (100, 10)
    assert [one.reporter for one in edge.latencies] == ["downstream", "upstream"]


async def test_listeners_behind_a_mapped_port_count_together_without_envoys_own() -> None:
    answers = ingress(rest="shop_svc_cluster_local__", cluster="outbound|80||cart")
    of_listener = "envoy_http_0_0_0_8443__downstream_rq_time_count"
    target = {"job": "envoy", "instance": "e:15090", METRIC: of_listener}
    elsewhere = {**target, "instance": "other:15090"}
    prefix = {"envoy_http_conn_manager_prefix": "outbound_0"}
    admin = {**target, METRIC: f"{DOWNSTREAM}_count", "envoy_http_conn_manager_prefix": "admin"}
    own = f"{DOWNSTREAM}_count"
    answers.samples = {
        **{name: samples for name, samples in answers.samples.items() if name != own},
        of_listener: [
            *timed({**target, **prefix}, count=100, ms=60),
            *timed({**elsewhere, **prefix}, count=100, ms=900),
            *timed(admin, count=50, ms=1),
        ],
        own: [],
    }
    verdict = await judged(answers, measured(62))
    assert places(verdict) == [(Place.CLIENT, 2), (Place.SOURCE_PROXY, 54), (Place.APPLICATION, 6)]


async def test_another_services_cluster_is_not_taken() -> None:
    verdict = await judged(ingress(cluster="outbound|80||cart.shopping.svc"), measured(62))
    assert (verdict.place, verdict.shares) == (Place.UNKNOWN, [])


async def test_an_unnamed_service_is_guessed_and_doubted() -> None:
    verdict = await judged(ingress(), measured(62, service=""))
    assert (verdict.place, verdict.confidence) == (Place.SOURCE_PROXY, Confidence.MEDIUM)
    assert f"the service under test was not named; {CART} got most requests" in verdict.reason


async def test_a_guess_among_istios_edges_takes_the_busiest() -> None:
    other = ends("source", destination="rare", service="rare.shop.svc")
    nowhere = ends("source", destination="", service="PassthroughCluster")
    answers = mesh((ends("source"), 100, 5), (other, 10, 900), (nowhere, 500, 7))
    verdict = await judged(answers, measured(62, service=""))
    assert (verdict.place, verdict.confidence) == (Place.CLIENT, Confidence.MEDIUM)
    assert [edge.service for edge in verdict.edges] == [CART]


# --- what is missing ----------------------------------------------------------------------------


async def test_an_empty_prometheus_says_so() -> None:
    verdict = await judged(Answers({}), measured(62))
    assert (verdict.place, verdict.confidence) == (Place.UNKNOWN, Confidence.LOW)
    assert verdict.missing == ["any metric of a mesh: neither proxies nor istiod are scraped"]
    assert [one.value for one in verdict.evidence] == [62]


async def test_a_named_service_without_requests_is_not_replaced_by_another() -> None:
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50))
    verdict = await judged(answers, measured(62, service="stock.shop"))
    assert (verdict.place, verdict.edges) == (Place.UNKNOWN, [])
    assert f"{REQUESTS}: requests to stock.shop in the window" in verdict.missing


async def test_what_is_not_scraped_is_told_with_what_it_would_say() -> None:
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50))
    missing = "\n".join((await judged(answers, measured(62))).missing)
    for name in ("container_cpu_usage", "pilot_xds_push_time", "upstream_rq_pending_overflow"):
        assert name in missing


async def test_a_query_that_fails_leaves_the_rest() -> None:
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50))
    answers.failing = DURATIONS
    verdict = await judged(answers, measured(62))
    assert verdict.place is Place.UNKNOWN
    assert f"{DURATIONS}: Prometheus refused the query: too many samples" in verdict.missing
    assert [edge.requests for edge in verdict.edges] == [100]


async def test_late_requests_are_told_beside_the_shares() -> None:
    answers = mesh((ends("source"), 100, 5))
    verdict = await judged(answers, measured(62, late_ms=500))
    (late,) = [one for one in verdict.evidence if "late" in one.text]
    assert late.value == 500
    assert sum(share.ms for share in verdict.shares) == 62


# --- saturation ---------------------------------------------------------------------------------


async def test_flags_of_full_things_are_told_once_for_both_ends() -> None:
    answers = mesh((ends("source"), 70, 60), (ends("destination"), 70, 50))
    answers.samples = {
        **answers.samples,
        REQUESTS: [
            counted(ends("source"), 70),
            counted(ends("destination"), 70),
            counted(ends("source"), 20, code="503", flags="UF,URX"),
            counted(ends("source"), 10, code="0", flags="DC"),
            counted(ends("destination"), 8, code="0", flags="DC"),
            counted(ends("source"), 5, code="404", flags="NR"),
        ],
    }
    verdict = await judged(answers, measured(62))
    assert {one.what: one.value for one in verdict.saturated} == {"UF": 20, "URX": 20, "DC": 10}
    (edge,) = verdict.edges
    assert (edge.requests, edge.errors) == (105, 35)
    assert edge.flags == {"UF": 20, "URX": 20, "DC": 10, "NR": 5}


async def test_breakers_and_waiting_for_connections_are_told() -> None:
    name = {"cluster_name": f"outbound|80||{CART}"}
    overflow, pending = (f"envoy_cluster_upstream_rq_pending_{x}" for x in ("overflow", "active"))
    more = {
        overflow: [Sample({**name, METRIC: overflow}, 17)],
        pending: [Sample({**name, METRIC: pending}, 4)],
    }
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50), more=more)
    verdict = await judged(answers, measured(62))
    assert {one.what: one.value for one in verdict.saturated} == {
        "upstream_rq_pending_overflow": 17,
        "pending": 4,
    }
    more[pending] = [Sample({**name, METRIC: pending}, 3)]  # of 8 connections: no queue
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50), more=more)
    verdict = await judged(answers, measured(62))
    assert [one.what for one in verdict.saturated] == ["upstream_rq_pending_overflow"]


async def test_containers_near_their_limits_are_told() -> None:
    def of(pod: str, **labels: str) -> dict[str, str]:
        return {"namespace": "shop", "pod": pod, "container": "istio-proxy", **labels}

    more = {
        "container_cpu_cfs_throttled_periods_total": [
            Sample(of("cart-v1-x"), 0.3),
            Sample(of("idle-x"), float("nan")),
            Sample(of("fine-x"), 0.04),
        ],
        "container_cpu_usage_seconds_total": [
            Sample(of("cart-v1-x"), 1.7),
            Sample(of("fine-x"), 0.5),
            Sample(of("free-x"), 3.0),
        ],
        "container_memory_working_set_bytes": [Sample(of("cart-v1-x"), 90e6)],
        "kube_pod_container_resource_limits": [
            Sample(of("cart-v1-x", resource="cpu"), 2),
            Sample(of("fine-x", resource="cpu"), 2),
            Sample(of("cart-v1-x", resource="memory"), 100e6),
        ],
    }
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50), more=more)
    verdict = await judged(answers, measured(62))
    assert {(one.what, one.value) for one in verdict.saturated} == {
        ("cpu", 0.85),
        ("memory", 0.9),
        ("cpu_throttled", 0.3),
    }
    assert {one.where for one in verdict.saturated} == {"shop/cart-v1-x/istio-proxy"}
    used = [one.text for one in verdict.evidence if "cores" in one.text]
    assert used[0] == "istio-proxy of free-x.shop used 3.00 cores"
    asked = next(text for text, _ in answers.asked if "(rate(container_cpu_usage" in text)
    assert 'pod=~"(istiod|ztunnel|waypoint|cart\\\\-v1|gateway)-.+"' in asked


async def test_processes_stand_in_for_containers() -> None:
    target = {"job": "istiod", "instance": "i:15014"}
    more = {
        "process_cpu_seconds_total": [Sample(target, 1.25)],
        "envoy_server_memory_allocated": [Sample(target, 64e6)],
        "pilot_proxy_convergence_time_count": timed({"job": "istiod"}, count=4, ms=0.5),
    }
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50), more=more)
    told = (await judged(answers, measured(62))).text()
    assert "istiod at i:15014 used 1.25 cores" in told
    assert "istiod at i:15014 used 64 MB" in told
    assert "istiod took 500 ms on average from a change to the proxies having it (4 in" in told


# --- what is asked ------------------------------------------------------------------------------


async def test_every_query_is_about_the_window_and_there_are_few() -> None:
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50))
    answers.names = [
        "container_cpu_usage_seconds_total",
        "container_cpu_cfs_throttled_periods_total",
        "kube_pod_container_resource_limits",
        "pilot_proxy_convergence_time_count",
        "pilot_xds_push_time_count",
        f"{UPSTREAM}_count",
        "envoy_cluster_upstream_rq",
        "envoy_cluster_upstream_rq_pending_active",
    ]
    await judged(answers, measured(62))
    assert {at for _, at in answers.asked} == {END}
    inventory, *others = [text for text, _ in answers.asked]
    assert "offset" not in inventory
    assert all("[90000ms]" in text for text in others)
    assert len(answers.asked) <= 14


async def test_names_from_the_mesh_cannot_leave_their_place_in_a_query() -> None:
    service = 'cart.shop.svc"} or up{a="|.*'
    answers = mesh((ends("source", service=service), 100, 60))
    await judged(answers, measured(62))
    asked = next(text for text, _ in answers.asked if f"{DURATIONS}_bucket" in text)
    value = re.search(r'destination_service=~"((?:[^"\\]|\\.)*)"', asked)
    assert value is not None
    pattern = re.sub(r"\\(.)", r"\1", value[1])
    assert re.fullmatch(pattern, service)
    assert not re.fullmatch(pattern, "anything")


async def test_no_secret_of_a_target_is_told() -> None:
    answers = mesh((ends("source"), 100, 60), (ends("destination"), 100, 50))
    verdict = await judged(answers, measured(62, service=""))
    assert "secret" not in verdict.model_dump_json()
    assert all("secret" not in text for text, _ in answers.asked)
