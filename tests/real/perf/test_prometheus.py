"""Verdicts with a real Prometheus: over series that the test moves, and over a real Envoy."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    start_http_server,
)
from prometheus_client.registry import Collector

from services.chassis.prometheus import PrometheusApi
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.measurements import Measurement, TargetResult
from services.perf.measurements.tallies import Tally
from services.perf.telemetry.correlation import correlate
from services.perf.telemetry.verdicts import Confidence, Place, Verdict
from tests.testbed import building, entries, loopback
from tests.testbed.clusters import Cluster
from tests.testbed.edges import Edge
from tests.testbed.istiods import Istiod
from tests.testbed.processes import Process, wait_until
from tests.testbed.prometheus import Prometheus
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.visitors import Request

HOST = "checkout.shop.svc.cluster.local"
SHOP = {
    "source_workload": "gateway",
    "source_workload_namespace": "istio-system",
    "destination_workload": "checkout-v1",
    "destination_workload_namespace": "shop",
    "destination_service": HOST,
}
BOUNDS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_SCRAPES = 4
_WITHIN_S = 60.0


def now() -> datetime:
    return datetime.now(timezone.utc)


class Proxies(Collector):
    """The metrics page of a mesh's proxies, as Istio's Envoys write it."""

    def __init__(self) -> None:
        self.port = loopback.take_port()
        self.restart()
        registry = CollectorRegistry()
        registry.register(self)
        self._server, self._thread = start_http_server(
            self.port, addr=loopback.HOST, registry=registry
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()

    def restart(self) -> None:
        """All counters begin at zero again, and know no edge."""
        registry = CollectorRegistry()
        ends = ("reporter", *SHOP)
        codes = ("response_code", "response_flags")
        requests = Counter("istio_requests", "-", (*ends, *codes), registry=registry)
        self._durations = Histogram(
            "istio_request_duration_milliseconds", "-", ends, buckets=BOUNDS, registry=registry
        )
        self._requests = requests
        self._registry = registry
        self._others: dict[str, Gauge] = {}

    def count(self, reporter: str, *, times: int, ms: float, code: str = "200") -> None:
        """So many requests of the shop's edge, as this reporter saw them."""
        flags = "UO" if code == "503" else "-"
        ends = {"reporter": reporter, **SHOP}
        self._requests.labels(**ends, response_code=code, response_flags=flags).inc(times)
        for _ in range(times):
            self._durations.labels(**ends).observe(ms)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Any other series; Prometheus itself does not look at a metric's type."""
        if name not in self._others:
            self._others[name] = Gauge(name, "-", tuple(labels), registry=self._registry)
        gauge = self._others[name]
        (gauge.labels(**labels) if labels else gauge).set(value)


@pytest.fixture(scope="module")
def page() -> Iterator[Proxies]:
    page = Proxies()
    yield page
    page.close()


@pytest.fixture(scope="module")
def scraping(page: Proxies, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One for all tests: it takes five seconds until it scrapes anything at all."""
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(folder, {"proxies": [f"{loopback.HOST}:{page.port}"]}) as running:
        yield running


@pytest.fixture
def proxies(page: Proxies) -> Proxies:
    """A page without any series."""
    page.restart()
    return page


@pytest.fixture
def prometheus(proxies: Proxies, scraping: Prometheus) -> Prometheus:
    """It has seen the empty page."""
    scraped(scraping, since=now(), times=1)
    return scraping


def scraped(prometheus: Prometheus, *, since: datetime, times: int) -> None:
    """Waits until every target was scraped so many times since then."""

    def is_scraped() -> bool:
        span_ms = math.ceil((now() - since).total_seconds() * 1000) + 1
        counts = prometheus.ask(f"count_over_time(up[{span_ms}ms])")
        return bool(counts) and all(int(one["value"][1]) >= times for one in counts)

    wait_until(
        is_scraped,
        timeout_s=_WITHIN_S,
        what=f"{times} scrapes",
        processes=[prometheus.process],
    )


def measured(
    durations_ms: Iterable[float],
    *,
    service: str = "checkout.shop",
    url: str = "http://checkout.shop/",
) -> Measurement:
    tally = Tally()
    for ms in durations_ms:
        tally.request(at_s=0, duration_us=round(ms * 1000), late_us=0, code="200", is_ok=True)
    return Measurement(
        run="r1",
        generator=GeneratorName.FORTIO,
        protocol=Protocol.HTTP1,
        service=service,
        started=now(),
        duration_s=1.0,
        requested_duration_s=1.0,
        requested_rate=0.0,
        connections=1,
        workers=1,
        targets=[TargetResult(url=url, weight=1.0, tally=tally.message())],
        tally=tally.message(),
    )


def shares(verdict: Verdict) -> dict[Place, float]:
    return {share.place: share.ms for share in verdict.shares}


async def judged(
    prometheus: Prometheus, measurement: Measurement, *, start: datetime, end: datetime
) -> Verdict:
    api = PrometheusApi(prometheus.url)
    return await correlate(api, measurement=measurement, window=(start, end))


async def test_only_what_the_window_saw_counts(prometheus: Prometheus, proxies: Proxies) -> None:
    for reporter in ("source", "destination"):
        proxies.count(reporter, times=500, ms=900)
    scraped(prometheus, since=now(), times=2)
    start = now()
    proxies.count("source", times=200, ms=62)
    proxies.count("destination", times=200, ms=50)
    scraped(prometheus, since=start, times=_SCRAPES)
    end = now()
    # What comes after the run is no part of it either.
    proxies.count("source", times=500, ms=900)
    scraped(prometheus, since=end, times=2)
    verdict = await judged(prometheus, measured([65] * 200), start=start, end=end)
    assert verdict.place is Place.APPLICATION
    assert verdict.confidence is Confidence.MEDIUM
    assert "the destination's proxy and the application" in verdict.reason
    assert shares(verdict) == {
        Place.CLIENT: pytest.approx(3),
        Place.SOURCE_PROXY: pytest.approx(12),
        Place.APPLICATION: pytest.approx(50),
    }
    (edge,) = verdict.edges
    assert (edge.requests, edge.errors) == (200, 0)
    # All values lie in one bucket each, and the quantile in its middle.
    assert {one.reporter: (one.mean_ms, one.p50_ms) for one in edge.latencies} == {
        "source": (62, 75),
        "destination": (50, 37.5),
    }
    assert verdict.scrapes >= _SCRAPES
    assert verdict.saturated == []


async def test_edges_born_in_the_run_count_from_zero(
    prometheus: Prometheus, proxies: Proxies
) -> None:
    start = now()
    proxies.count("source", times=100, ms=200)
    proxies.count("source", times=20, ms=1, code="503")
    proxies.count("destination", times=100, ms=10)
    scraped(prometheus, since=start, times=_SCRAPES)
    end = now()
    verdict = await judged(prometheus, measured([200] * 100 + [1] * 20), start=start, end=end)
    assert verdict.place is Place.SOURCE_PROXY
    (edge,) = verdict.edges
    assert (edge.requests, edge.errors, edge.flags) == (120, 20, {"UO": 20})
    (refused,) = verdict.saturated
    assert (refused.what, refused.value) == ("UO", 20)


async def test_proxies_that_began_again_in_the_run_keep_their_means(
    prometheus: Prometheus, proxies: Proxies
) -> None:
    for reporter in ("source", "destination"):
        proxies.count(reporter, times=1000, ms=100)
    scraped(prometheus, since=now(), times=2)
    start = now()
    for reporter, ms in (("source", 40), ("destination", 30)):
        proxies.count(reporter, times=100, ms=ms)
    scraped(prometheus, since=start, times=2)
    proxies.restart()
    for reporter, ms in (("source", 40), ("destination", 30)):
        proxies.count(reporter, times=100, ms=ms)
    scraped(prometheus, since=start, times=6)
    end = now()
    verdict = await judged(prometheus, measured([41] * 200), start=start, end=end)
    assert verdict.place is Place.APPLICATION
    (edge,) = verdict.edges
    # Around a reset Prometheus can only estimate what came before the first sample in the window.
    assert 90 <= edge.requests <= 320
    assert shares(verdict)[Place.SOURCE_PROXY] == pytest.approx(10, abs=0.5)


async def test_what_a_target_counted_before_it_was_known_is_not_of_the_run(
    proxies: Proxies, tmp_path: Path
) -> None:
    proxies.count("destination", times=1000, ms=900)
    start = now()
    targets = {"proxies": [f"{loopback.HOST}:{proxies.port}"]}
    with Prometheus(tmp_path / "prometheus", targets) as prometheus:
        scraped(prometheus, since=start, times=1)
        proxies.count("destination", times=100, ms=20)
        scraped(prometheus, since=start, times=_SCRAPES)
        verdict = await judged(prometheus, measured([21] * 100), start=start, end=now())
    (edge,) = verdict.edges
    assert edge.requests == 100
    assert verdict.place is Place.APPLICATION


async def test_a_window_without_scrapes_is_too_short(
    prometheus: Prometheus, proxies: Proxies
) -> None:
    proxies.count("destination", times=10, ms=20)
    scraped(prometheus, since=now(), times=2)
    end = now()
    start = end - timedelta(milliseconds=1)
    verdict = await judged(prometheus, measured([20] * 10), start=start, end=end)
    assert verdict.place is Place.UNKNOWN
    assert verdict.confidence is Confidence.LOW
    assert any("requests to checkout.shop in the window" in text for text in verdict.missing)


async def test_what_was_full_is_told(prometheus: Prometheus, proxies: Proxies) -> None:
    container = {"namespace": "shop", "pod": "checkout-v1-7c-x", "container": "istio-proxy"}
    cluster = {"cluster_name": f"outbound|80||{HOST}"}

    def stand(cores: float, overflow: float, pushes: float) -> None:
        proxies.set("container_cpu_usage_seconds_total", cores, **container)
        proxies.set("container_cpu_cfs_throttled_periods_total", cores, **container)
        proxies.set("container_cpu_cfs_periods_total", 2 * cores, **container)
        proxies.set("envoy_cluster_upstream_rq_pending_overflow", overflow, **cluster)
        proxies.set("pilot_xds_push_time_bucket", pushes, le="+Inf")
        proxies.set("pilot_xds_push_time_count", pushes)
        proxies.set("pilot_xds_push_time_sum", pushes / 4)

    proxies.set("container_memory_working_set_bytes", 95e6, **container)
    proxies.set("envoy_cluster_upstream_rq_pending_active", 5, **cluster)
    for resource, limit in (("cpu", 0.5), ("memory", 100e6)):
        name = "kube_pod_container_resource_limits"
        proxies.set(name, limit, **container, resource=resource)
    stand(100, 10, 3)
    scraped(prometheus, since=now(), times=2)
    start = now()
    proxies.count("destination", times=100, ms=20)
    scraped(prometheus, since=start, times=2)
    stand(110, 17, 8)
    scraped(prometheus, since=start, times=5)
    verdict = await judged(prometheus, measured([21] * 100), start=start, end=now())
    full = {one.what: one.value for one in verdict.saturated}
    assert set(full) == {
        "cpu",
        "cpu_throttled",
        "memory",
        "pending",
        "upstream_rq_pending_overflow",
    }
    assert full["upstream_rq_pending_overflow"] == 7
    assert full["cpu_throttled"] == pytest.approx(0.5)
    assert full["memory"] == 0.95
    assert full["cpu"] > 1
    (pushed,) = [one for one in verdict.evidence if "istiod" in one.text]
    assert pushed.value == 0.25
    assert "(5 in the window" in pushed.text


async def test_processes_are_told_where_no_container_is(
    prometheus: Prometheus, proxies: Proxies
) -> None:
    start = now()
    for seconds in (1, 2, 3):
        proxies.set("process_cpu_seconds_total", seconds)
        proxies.set("envoy_server_memory_allocated", 64e6 * seconds)
        scraped(prometheus, since=now(), times=2)
    verdict = await judged(prometheus, measured([21] * 100), start=start, end=now())
    told = [one.text for one in verdict.evidence]
    where = f"proxies at {loopback.HOST}:{proxies.port} used"
    assert f"{where} 192 MB" in told
    assert any(text.startswith(where) and text.endswith("cores") for text in told)


async def test_an_address_that_nobody_listens_on_makes_a_verdict_without_telemetry() -> None:
    url = f"http://user:hidden@{loopback.HOST}:{loopback.take_port()}"
    verdict = await correlate(PrometheusApi(url), measurement=measured([5]), window=(now(), now()))
    assert verdict.place is Place.UNKNOWN
    assert verdict.confidence is Confidence.LOW
    assert any("cannot be reached" in text for text in verdict.missing)
    assert "hidden" not in verdict.model_dump_json()


# --- a real Envoy as ingress -------------------------------------------------------------------


class Ingress:
    """istiod, an Envoy as ingress, a real server behind it, and Prometheus."""

    def __init__(self, folder: Path, starting: ExitStack) -> None:
        self.cluster = starting.enter_context(Cluster(folder / "cluster", name="telemetry"))
        definitions = building.distributions_folder() / ISTIO_VERSION
        file = definitions / "manifests/charts/base/files/crd-all.gen.yaml"
        self.cluster.kubectl("apply", "--server-side", "-f", str(file))
        self.cluster.wait_established()
        for name in ("istio-system", "shop"):
            self.cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": name}})
        port = loopback.take_port()
        self.server = Process(
            "fortio",
            [building.binary("fortio"), "server", *_only_http(port)],
            log=folder / "fortio.log",
        )
        self.server.start()
        starting.callback(self.server.kill)
        wait_until(
            lambda: bool(loopback.fetch(f"http://{loopback.HOST}:{port}/debug")),
            timeout_s=_WITHIN_S,
            what="fortio",
            processes=[self.server],
        )
        entry = entries.service_entry(HOST, namespace="shop", name="checkout", ports={80: port})
        entries.apply(self.cluster, [entry])
        self.istiod = starting.enter_context(
            Istiod(folder / "istiod", kubeconfig=self.cluster.kubeconfig)
        )
        self.edge = starting.enter_context(
            Edge(folder / "edge", cluster=self.cluster, istiod=self.istiod, namespace="shop")
        )
        admin = f"{loopback.HOST}:{self.edge.envoy.admin_port}/stats/prometheus"
        self.prometheus = starting.enter_context(
            Prometheus(folder / "prometheus", {"envoy": [admin]})
        )

    def route(self, **fault: object) -> None:
        """Requests go to the server, with this fault in the Envoy."""
        destination = {"destination": {"host": HOST, "port": {"number": 80}}}
        rule = {"route": [destination], **({"fault": fault} if fault else {})}
        spec = {"hosts": [HOST], "gateways": [self.edge.gateway], "http": [rule]}
        entries.apply(
            self.cluster,
            [entries.istio_object("VirtualService", name="shop", namespace="shop", spec=spec)],
        )
        # Without a route Envoy answers 404; a fault stands in the route that is in use.
        wait_until(
            lambda: (
                self.edge.visitor.ask(Request(host=HOST)).status == 200
                and self.edge.envoy.has("fixed_delay") == bool(fault)
            ),
            timeout_s=_WITHIN_S,
            what="the route",
            processes=[self.edge.envoy.process],
        )

    async def verdict(self, path: str, *, requests: int, service: str) -> Verdict:
        """Sends requests one after the other, and asks what the telemetry says."""
        scraped(self.prometheus, since=now(), times=2)
        start = now()
        durations = []
        for _ in range(requests):
            began = time.perf_counter()
            assert self.edge.visitor.ask(Request(host=HOST, path=path)).status == 200
            durations.append((time.perf_counter() - began) * 1000)
        # Envoy flushes histograms every five seconds; only then a scrape has them.
        wait_until(
            lambda: self._counted(start) >= requests, timeout_s=_WITHIN_S, what="all requests"
        )
        measurement = measured(
            durations, service=service, url=f"http://{loopback.HOST}:{self.edge.port}/"
        )
        return await judged(self.prometheus, measurement, start=start, end=now())

    def _counted(self, since: datetime) -> float:
        name = '{__name__=~"envoy_http_.+_downstream_rq_time_count"}'
        before = self.prometheus.ask(f"sum({name} @ {since.timestamp():.3f})")
        after = self.prometheus.ask(f"sum({name})")
        values = [float(found[0]["value"][1]) if found else 0.0 for found in (before, after)]
        return values[1] - values[0]


def _only_http(port: int) -> list[str]:
    closed = ("grpc-port", "tcp-port", "udp-port", "redirect-port")
    return [f"-http-port={loopback.HOST}:{port}", *(f"-{name}=disabled" for name in closed)]


@pytest.fixture(scope="module")
def ingress(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingress]:
    with ExitStack() as starting:
        yield Ingress(tmp_path_factory.mktemp("ingress"), starting)


async def test_a_slow_application_behind_an_envoy_is_named(ingress: Ingress) -> None:
    ingress.route()
    verdict = await ingress.verdict("/?delay=50ms", requests=40, service="checkout.shop")
    assert verdict.place is Place.APPLICATION, verdict.text()
    found = shares(verdict)
    assert found[Place.APPLICATION] > 45
    assert found[Place.SOURCE_PROXY] < 10
    (edge,) = verdict.edges
    assert (edge.requests, edge.errors) == (40, 0)
    assert {one.reporter for one in edge.latencies} == {"downstream", "upstream"}


async def test_a_delay_in_the_envoy_is_named(ingress: Ingress) -> None:
    ingress.route(delay={"percentage": {"value": 100}, "fixedDelay": "0.05s"})
    # Nobody names the service: it is the one that got the requests.
    verdict = await ingress.verdict("/", requests=40, service="")
    assert verdict.place is Place.SOURCE_PROXY, verdict.text()
    assert verdict.confidence is not Confidence.LOW
    assert "was not named" in verdict.reason
    found = shares(verdict)
    assert found[Place.SOURCE_PROXY] > 45
    assert found[Place.APPLICATION] < 10
