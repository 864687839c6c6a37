"""Traffic out of a real Prometheus whose series the test moves."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone

import pytest
from aiohttp import web

from services.chassis.errors import TelemetryUnavailable
from services.chassis.prometheus import PrometheusApi
from services.topology.telemetry.prometheus import PrometheusTelemetry
from services.topology.telemetry.traffic import Called, Flow, Flows, Peer, Protocol
from tests.real.topology.pages import Page, edge
from tests.testbed import loopback
from tests.testbed.processes import wait_until
from tests.testbed.prometheus import Prometheus
from tests.testbed.proxies import FaultProxy

WINDOW_S = 10.0
_WITHIN_S = 60.0
_MOST_QUERIES = 12


def now() -> datetime:
    return datetime.now(timezone.utc)


@pytest.fixture(scope="module")
def shown() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def scraping(shown: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One for all tests: it takes five seconds until it scrapes anything at all."""
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(folder, {"proxies": [f"{loopback.HOST}:{shown.port}"]}) as running:
        yield running


@pytest.fixture
def page(shown: Page) -> Page:
    shown.clear()
    return shown


@pytest.fixture
async def api(scraping: Prometheus) -> AsyncIterator[PrometheusApi]:
    api = PrometheusApi(scraping.url, is_kept=True)
    yield api
    await api.close()


def scraped(prometheus: Prometheus, *, times: int) -> datetime:
    """Waits for so many scrapes from now on; gives the moment after them."""
    since = now()

    def is_scraped() -> bool:
        span_ms = math.ceil((now() - since).total_seconds() * 1000) + 1
        counts = prometheus.ask(f"count_over_time(up[{span_ms}ms])")
        return bool(counts) and all(int(one["value"][1]) >= times for one in counts)

    wait_until(is_scraped, timeout_s=_WITHIN_S, what="scrapes", processes=[prometheus.process])
    return now()


class Judge:
    """What Prometheus itself says about one series at the same moment."""

    def __init__(self, api: PrometheusApi, at: datetime) -> None:
        self._api = api
        self._at = at

    async def rate(self, selector: str) -> float:
        (found,) = await self._api.query(f"sum(rate({selector}[{WINDOW_S:g}s]))", at=self._at)
        return found.value

    async def quantile(self, share: float, matchers: str) -> float:
        buckets = f"istio_request_duration_milliseconds_bucket{{{matchers}}}"
        text = f"histogram_quantile({share}, sum by (le) (rate({buckets}[{WINDOW_S:g}s])))"
        (found,) = await self._api.query(text, at=self._at)
        return found.value


def flow_of(flows: Flows, workload: str, protocol: Protocol = Protocol.HTTP) -> Flow:
    """The one flow to a workload."""
    (found,) = [
        flow
        for key, flow in flows.items()
        if key.destination.workload == workload and key.protocol is protocol
    ]
    return found


def move(page: Page) -> None:
    """Traffic of all kinds, each on an edge of its own; called twice, so that counters grow."""
    both = edge(1)
    for reporter, policy in (("source", "unknown"), ("destination", "mutual_tls")):
        page.request(both, reporter=reporter, times=20, ms=30, policy=policy)
        page.request(both, reporter=reporter, times=4, ms=70, policy=policy)
    page.request(both, reporter="source", times=2, code="503", flags="UF")
    page.request(both, reporter="source", times=1, code="0", flags="DC")
    for grpc, times in (("0", 6), ("14", 2)):
        page.request(edge(2), reporter="destination", times=times, protocol="grpc", grpc=grpc)
    page.count("istio_request_messages", 12, reporter="destination", **edge(2))
    page.count("istio_response_messages", 6, reporter="destination", **edge(2))
    for reporter in ("source", "destination"):
        page.count("istio_tcp_received_bytes", 1000, reporter=reporter, app="db", **edge(3))
        page.count("istio_tcp_sent_bytes", 50, reporter=reporter, app="db", **edge(3))
    nobody = {name: "unknown" for name in edge() if name.startswith("source_")}
    page.request(edge(4, **nobody), reporter="destination", times=5, ms=12)
    page.request(edge(5, destination_cluster="west"), reporter="source", times=3)
    page.request(edge(6), reporter="waypoint", times=8)
    for reporter in ("source", "destination"):
        page.count("istio_tcp_received_bytes", 700, reporter=reporter, app="ztunnel", **edge(6))
    to_waypoint = edge(6, destination_workload="waypoint")
    page.count("istio_tcp_received_bytes", 700, reporter="source", app="ztunnel", **to_waypoint)
    gone = {
        name: "unknown"
        for name in edge()
        if name.startswith(("destination_workload", "destination_canonical"))
    }
    page.request(edge(7, **gone), reporter="source", times=2, code="503", flags="UH")
    address = {"destination_service": "10.1.2.3:80", "destination_service_name": "10.1.2.3:80"}
    page.request(edge(8, **{**gone, **address}), reporter="source", times=2)


async def test_all_kinds_of_reports(page: Page, scraping: Prometheus, api: PrometheusApi) -> None:
    move(page)
    scraped(scraping, times=2)
    move(page)
    at = scraped(scraping, times=3)
    telemetry = PrometheusTelemetry(api)
    flows = await telemetry.flows(at=at, window_s=WINDOW_S)
    assert telemetry.missing == ()
    judge = Judge(api, at)

    http = flow_of(flows, "reviews-1")
    rates = {(one.code, one.flags): one.rate for one in http.answers}
    requests = 'istio_requests_total{{destination_workload="reviews-1",{0}}}'
    assert rates == {
        ("200", "-"): await judge.rate(
            requests.format('reporter="destination",response_code="200"')
        ),
        ("503", "UF"): await judge.rate(requests.format('response_code="503"')),
        ("-", "DC"): await judge.rate(requests.format('response_code="0"')),
    }
    assert {one.host for one in http.answers} == {"reviews.shop.svc.cluster.local"}
    assert http.mtls_share == 1
    assert http.source_principal == "spiffe://cluster.local/ns/shop/sa/a"
    matchers = 'destination_workload="reviews-1",reporter="source"'
    for name, share in (("50", 0.5), ("95", 0.95), ("99", 0.99)):
        expected = await judge.quantile(share, matchers)
        assert http.response_ms[name] == pytest.approx(expected, rel=1e-6)
    assert http.response_ms["avg"] == pytest.approx((20 * 30 + 4 * 70) / 24)

    grpc = flow_of(flows, "reviews-2", Protocol.GRPC)
    assert {one.code for one in grpc.answers} == {"0", "14"}
    assert grpc.sent == pytest.approx(2 * grpc.received)
    tcp = flow_of(flows, "reviews-3", Protocol.TCP)
    assert tcp.sent == await judge.rate(
        'istio_tcp_received_bytes_total{destination_workload="reviews-3",reporter="source"}'
    )
    assert tcp.received == pytest.approx(tcp.sent / 20)

    (unknown,) = [key for key in flows if key.destination.workload == "reviews-4"]
    assert unknown.source == Peer()
    assert flows[unknown].response_ms["50"] == pytest.approx(17.5)
    (elsewhere,) = [key for key in flows if key.destination.workload == "reviews-5"]
    assert (elsewhere.called.cluster, elsewhere.destination.cluster) == ("west", "west")
    assert len([key for key in flows if key.destination.workload == "reviews-6"]) == 1
    assert flow_of(flows, "reviews-6").answers[0].rate > 0
    assert flow_of(flows, "waypoint", Protocol.TCP).waypoint == "to"
    (dangling,) = [key for key in flows if key.source.workload == "page-7"]
    assert dangling.destination == Peer()
    assert dangling.called == Called(
        "Kubernetes", "shop", "reviews", "reviews.shop.svc.cluster.local"
    )
    assert not [key for key in flows if key.source.workload == "page-8"]


def asked(prometheus: Prometheus) -> int:
    """How many instant queries the server has answered."""
    text = loopback.fetch(f"{prometheus.url}/metrics").decode()
    found = re.findall(
        r'^prometheus_http_requests_total\{code="\d+",handler="/api/v1/query"\} (\S+)$',
        text,
        re.MULTILINE,
    )
    return int(sum(map(float, found)))


async def test_a_mesh_of_many_namespaces_costs_as_many_queries_as_one(
    page: Page, scraping: Prometheus, api: PrometheusApi
) -> None:
    counts = {}
    for namespaces in (1, 50):
        for grown in range(2):
            for number in range(namespaces):
                ends = edge(number, namespace=f"ns{number}")
                for reporter in ("source", "destination"):
                    page.request(ends, reporter=reporter, times=3, ms=20)
            at = scraped(scraping, times=2 + grown)
        before = asked(scraping)
        flows = await PrometheusTelemetry(api).flows(at=at, window_s=WINDOW_S)
        counts[namespaces] = asked(scraping) - before
        found = {key.called.namespace for key in flows if key.called.namespace.startswith("ns")}
        assert len(found) == namespaces
    assert counts[1] == counts[50] <= _MOST_QUERIES


async def test_an_answer_that_is_too_long_is_missing_and_told(
    page: Page, scraping: Prometheus
) -> None:
    for _ in range(2):
        for ms in (1, 7, 20, 40, 80, 300):
            page.request(edge(1), reporter="source", times=3, ms=ms)
        at = scraped(scraping, times=2)
    api = PrometheusApi(scraping.url, most_bytes=1000)
    telemetry = PrometheusTelemetry(api)
    flows = await telemetry.flows(at=at, window_s=3)
    (missing,) = telemetry.missing
    assert missing.startswith("response times: ")
    assert flow_of(flows, "reviews-1").response_ms == {}
    assert flow_of(flows, "reviews-1").answers


async def test_a_prometheus_that_is_slow_or_away_is_told(scraping: Prometheus) -> None:
    with FaultProxy(int(scraping.url.rpartition(":")[2])) as proxy:
        api = PrometheusApi(
            f"http://user:hidden@{proxy.address}", timeout=timedelta(seconds=0.5), is_kept=True
        )
        telemetry = PrometheusTelemetry(api)
        proxy.blackhole()
        with pytest.raises(TelemetryUnavailable) as slow:
            await telemetry.flows(at=now(), window_s=WINDOW_S)
        assert "did not answer within 0.5 s" in slow.value.cause
        proxy.refuse()
        proxy.cut()
        with pytest.raises(TelemetryUnavailable) as away:
            await telemetry.flows(at=now(), window_s=WINDOW_S)
        assert "cannot be reached" in away.value.cause
        assert "hidden" not in f"{slow.value} {away.value}"
        proxy.heal()
        await telemetry.flows(at=now(), window_s=WINDOW_S)
        await api.close()


async def test_something_else_at_the_address_is_told() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text='{"kind": "Status", "status": "Failure"}')

    port = loopback.take_port()
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, loopback.HOST, port).start()
    telemetry = PrometheusTelemetry(PrometheusApi(f"http://{loopback.HOST}:{port}"))
    with pytest.raises(TelemetryUnavailable) as refused:
        await telemetry.flows(at=now(), window_s=WINDOW_S)
    assert "has not the form" in refused.value.cause
    await runner.cleanup()
