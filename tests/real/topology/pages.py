"""A page of metrics as the proxies of a mesh would show it to Prometheus, moved by the test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.topology.telemetry.queries import ENDS
from tests.testbed import loopback

BOUNDS = (5.0, 10.0, 25.0, 50.0, 100.0)
_REQUEST_LABELS = ("request_protocol", "response_code", "grpc_response_status", "response_flags")
_SECURITY = ("connection_security_policy", "source_principal", "destination_principal")


def edge(number: int = 1, *, namespace: str = "shop", **changed: str) -> dict[str, str]:
    """Labels of an edge from `page-N` to `reviews-N` of a namespace."""
    labels = {
        "source_cluster": "Kubernetes",
        "source_workload_namespace": namespace,
        "source_workload": f"page-{number}",
        "source_canonical_service": "page",
        "source_canonical_revision": "v1",
        "destination_cluster": "Kubernetes",
        "destination_workload_namespace": namespace,
        "destination_workload": f"reviews-{number}",
        "destination_canonical_service": "reviews",
        "destination_canonical_revision": "v1",
        "destination_service_namespace": namespace,
        "destination_service_name": "reviews",
        "destination_service": f"reviews.{namespace}.svc.cluster.local",
    }
    assert set(labels) == set(ENDS)
    return {**labels, **changed}


class Page(Collector):
    """Counters that only grow until `clear`."""

    def __init__(self) -> None:
        self.port = loopback.take_port()
        self._counters: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        self._durations: dict[tuple[tuple[str, str], ...], list[float]] = {}
        registry = CollectorRegistry()
        registry.register(self)
        self._server, self._thread = start_http_server(
            self.port, addr=loopback.HOST, registry=registry
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def clear(self) -> None:
        self._counters, self._durations = {}, {}

    def count(self, metric: str, by: float, **labels: str) -> None:
        """`metric` without `_total`."""
        counted = self._counters.setdefault(metric, {})
        key = tuple(sorted(labels.items()))
        counted[key] = counted.get(key, 0.0) + by

    def request(
        self,
        ends: Mapping[str, str],
        *,
        reporter: str,
        times: int,
        ms: float | None = None,
        protocol: str = "http",
        code: str = "200",
        grpc: str = "",
        flags: str = "-",
        policy: str = "unknown",
    ) -> None:
        told = dict(zip(_REQUEST_LABELS, (protocol, code, grpc, flags), strict=True))
        identity = "spiffe://cluster.local/ns/shop/sa/"
        secured = dict(zip(_SECURITY, (policy, identity + "a", identity + "b"), strict=True))
        labels = {"reporter": reporter, **ends, **told, **secured}
        self.count("istio_requests", times, **labels)
        if ms is not None:
            self._durations.setdefault(tuple(sorted(labels.items())), []).extend([ms] * times)

    def collect(self) -> Iterable[Metric]:
        for metric, counted in self._counters.items():
            names = sorted({name for key in counted for name, _ in key})
            family = CounterMetricFamily(metric, "-", labels=names)
            for key, value in counted.items():
                labels = dict(key)
                family.add_metric([labels.get(name, "") for name in names], value)
            yield family
        if self._durations:
            names = [name for name, _ in next(iter(self._durations))]
            histogram = HistogramMetricFamily(
                "istio_request_duration_milliseconds", "-", labels=names
            )
            for key, values in self._durations.items():
                histogram.add_metric([value for _, value in key], _buckets(values), sum(values))
            yield histogram


def _buckets(values: Iterable[float]) -> list[tuple[str, float]]:
    listed = list(values)
    finite = [(str(bound), float(sum(v <= bound for v in listed))) for bound in BOUNDS]
    return [*finite, ("+Inf", float(len(listed)))]
