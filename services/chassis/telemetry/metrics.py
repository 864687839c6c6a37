"""Metrics as data: one catalogue entry says name, type, labels, meaning and what to do.

The reference page is generated from the entries; code uses the instruments by entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class MetricType(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """When a metric wakes somebody: the chart's rules are made of these, and say its `action`."""

    name: str
    expression: str
    """PromQL; `METRIC` stands for the metric's name."""
    lasting: str = "0m"
    """How long it must hold."""
    severity: str = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One entry of the catalogue. `action` tells an operator the next step when it looks wrong."""

    name: str
    type: MetricType
    meaning: str
    action: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    alert: Alert | None = None


LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
WORK_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)

COMMANDS = Metric(
    name="meshbus_commands_total",
    type=MetricType.COUNTER,
    labels=("kind", "outcome"),
    meaning="Commands that this worker ended, by outcome: done, failed, retried, dead",
    action="`dead` above zero: read the stream DLQ. Many `retried`: a cluster or NATS is unwell",
    alert=Alert(
        name="MeshbusCommandsDead",
        expression='sum by (kind) (increase(METRIC{outcome="dead"}[10m])) > 0',
    ),
)
COMMAND_SECONDS = Metric(
    name="meshbus_command_seconds",
    type=MetricType.HISTOGRAM,
    labels=("kind",),
    buckets=WORK_BUCKETS_S,
    meaning="How long a command took in the worker",
    action="Compare with the trace of a slow one in Jaeger",
)
RUNNING = Metric(
    name="meshbus_commands_running",
    type=MetricType.GAUGE,
    meaning="Commands that this worker has in hand: running, or waiting as the next metric says",
    action="At the worker's limit for long: add a worker",
)
WAITING = Metric(
    name="meshbus_commands_waiting",
    type=MetricType.GAUGE,
    labels=("reason",),
    meaning="Commands in this worker's hands that wait: for their `cluster`'s first answer, or for "
    "a `slot`",
    action="`cluster`: some do not answer, and fail soon. `slot` for long: add a worker",
    alert=Alert(
        name="MeshbusCommandsWait",
        expression='sum(METRIC{reason="slot"}) > 0',
        lasting="15m",
    ),
)
KUBE_REQUESTS = Metric(
    name="meshbus_kube_requests_total",
    type=MetricType.COUNTER,
    labels=("method", "code"),
    meaning="Requests to Kubernetes API servers by method and status",
    action="429 or 5xx growing: the API server is overloaded",
    alert=Alert(
        name="MeshbusApiServersOverloaded",
        expression='sum(rate(METRIC{code=~"429|5.."}[10m])) / sum(rate(METRIC[10m])) > 0.05',
        lasting="10m",
    ),
)
EVENTS = Metric(
    name="meshbus_events_total",
    type=MetricType.COUNTER,
    labels=("phase",),
    meaning="Events that this service published",
    action="`failed` growing: look at the operations' errors",
)
RPC_SECONDS = Metric(
    name="meshbus_rpc_seconds",
    type=MetricType.HISTOGRAM,
    labels=("method", "code"),
    buckets=LATENCY_BUCKETS_S,
    meaning="How long the gateway took to answer a unary call",
    action="ApplyOperation above 10 ms: look at NATS' latency",
    alert=Alert(
        name="MeshbusGatewaySlow",
        expression="histogram_quantile(0.99, sum by (le) "
        '(rate(METRIC_bucket{method="ApplyOperation"}[10m]))) > 0.25',
        lasting="10m",
    ),
)
STREAMS_OPEN = Metric(
    name="meshbus_event_streams",
    type=MetricType.GAUGE,
    meaning="Clients that hold a StreamEvents call",
    action="Zero while Meshery is open: it cannot reach the gateway",
)
EVENTS_DELIVERED = Metric(
    name="meshbus_events_delivered_total",
    type=MetricType.COUNTER,
    meaning="Events written to clients, counted once for each client",
    action="Stands still while events are published: no client is connected",
)
CLIENTS_DROPPED = Metric(
    name="meshbus_event_clients_dropped_total",
    type=MetricType.COUNTER,
    meaning="Clients that were disconnected because they read too slowly",
    action="Look at the client; it reconnects and goes on",
    alert=Alert(
        name="MeshbusClientsTooSlow",
        expression="sum(increase(METRIC[15m])) > 3",
        severity="info",
    ),
)
SHARDS = Metric(
    name="meshbus_perf_shards_running",
    type=MetricType.GAUGE,
    meaning="Parts of performance runs that this worker makes load for",
    action="At the worker's limit while the queue `perf-shards` grows: add perf workers",
)
LOAD_REQUESTS = Metric(
    name="meshbus_perf_requests_total",
    type=MetricType.COUNTER,
    meaning="Requests that this worker's load generators have sent",
    action="Stands still while shards run: look at the run's events",
)

CLUSTERS_OWNED = Metric(
    name="meshbus_topology_clusters",
    type=MetricType.GAUGE,
    meaning="Clusters that this replica watches",
    action="The sum over all replicas below the number of registered clusters: one has no watcher",
)
CLUSTERS_LEFT = Metric(
    name="meshbus_topology_clusters_unwatched",
    type=MetricType.GAUGE,
    meaning="Registered clusters that nobody watches, since every replica has as many as it may",
    action="Above zero: start one more topology worker, or raise MESHBUS_TOPOLOGY_MOST_CLUSTERS",
    alert=Alert(
        name="MeshbusClustersUnwatched",
        expression="max(METRIC) > 0",
        lasting="5m",
    ),
)
CHANGES_TOLD = Metric(
    name="meshbus_topology_deltas_total",
    type=MetricType.COUNTER,
    labels=("topic",),
    meaning="Changes of graphs, findings and drift that were put on the bus",
    action="Growing by hundreds a second: something in a cluster changes without end",
    alert=Alert(
        name="MeshbusGraphRestless",
        expression="sum(rate(METRIC[10m])) > 200",
        lasting="15m",
        severity="info",
    ),
)
TELLING_SECONDS = Metric(
    name="meshbus_topology_seconds",
    type=MetricType.HISTOGRAM,
    buckets=LATENCY_BUCKETS_S,
    meaning="From a cluster's event to its change of the graph being on the bus",
    action="Above 25 ms: the process is short of processor time, or NATS writes slowly",
    alert=Alert(
        name="MeshbusGraphLate",
        expression="histogram_quantile(0.99, sum by (le) (rate(METRIC_bucket[10m]))) > 0.25",
        lasting="15m",
    ),
)
FOLLOWINGS = Metric(
    name="meshbus_topology_followings_total",
    type=MetricType.COUNTER,
    labels=("outcome",),
    meaning="New translations of SMI objects that changes of a cluster asked for: asked, given_up",
    action="`given_up` above zero: the log (following_given_up) and the last events of the "
    "operation say why; apply the source again",
)
CONNECTIONS_CUT = Metric(
    name="meshbus_connections_cut_total",
    type=MetricType.COUNTER,
    meaning="Connections that were ended because one address held more than its share",
    action="Growing: look for the address in the log (connections_cut) and keep it out",
    alert=Alert(
        name="MeshbusConnectionsCut",
        expression="sum(increase(METRIC[15m])) > 0",
        severity="info",
    ),
)
AUDIT_LOST = Metric(
    name="meshbus_audit_lost_total",
    type=MetricType.COUNTER,
    meaning="Entries that could not be written to the audit stream; the log has them all the same",
    action="Above zero: NATS was away for long; collect `audit` from the service's log",
    alert=Alert(
        name="MeshbusAuditLost",
        expression="sum(increase(METRIC[15m])) > 0",
        severity="critical",
    ),
)
CATALOGUE: tuple[Metric, ...] = (
    COMMANDS,
    COMMAND_SECONDS,
    RUNNING,
    WAITING,
    KUBE_REQUESTS,
    EVENTS,
    RPC_SECONDS,
    STREAMS_OPEN,
    EVENTS_DELIVERED,
    CLIENTS_DROPPED,
    SHARDS,
    LOAD_REQUESTS,
    CLUSTERS_OWNED,
    CLUSTERS_LEFT,
    CHANGES_TOLD,
    TELLING_SECONDS,
    FOLLOWINGS,
    CONNECTIONS_CUT,
    AUDIT_LOST,
)


class Metrics:
    """The instruments of one process, made from the catalogue."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in CATALOGUE:
            self._add(metric)

    def _add(self, metric: Metric) -> None:
        name, text, labels = metric.name, metric.meaning, metric.labels
        if metric.type is MetricType.COUNTER:
            self._counters[name] = Counter(name, text, labels, registry=self.registry)
        elif metric.type is MetricType.GAUGE:
            self._gauges[name] = Gauge(name, text, labels, registry=self.registry)
        else:
            self._histograms[name] = Histogram(
                name, text, labels, registry=self.registry, buckets=metric.buckets
            )

    def count(self, metric: Metric, *labels: str, times: int = 1) -> None:
        """Adds one, or as many as happened."""
        counter = self._counters[metric.name]
        (counter.labels(*labels) if labels else counter).inc(times)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Moves a gauge up or down."""
        gauge = self._gauges[metric.name]
        (gauge.labels(*labels) if labels else gauge).inc(amount)

    @contextmanager
    def counted(self, metric: Metric, *labels: str) -> Iterator[None]:
        """A gauge is one higher for the block."""
        self.add(metric, 1, *labels)
        try:
            yield
        finally:
            self.add(metric, -1, *labels)

    def observe(self, metric: Metric, seconds: float, *labels: str) -> None:
        histogram = self._histograms[metric.name]
        (histogram.labels(*labels) if labels else histogram).observe(seconds)

    def exposition(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)
