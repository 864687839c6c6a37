"""Envoy's own statistics: a second source, and the only one where no Istio metrics are scraped.

Istio's proxies name a cluster in the label `cluster_name`. An Envoy without Istio's bootstrap takes
the label `envoy_cluster_name`, and cuts names at the first dot: what follows becomes a part of the
metric's name, as in `envoy_cluster_shop_svc_cluster_local_upstream_rq_time{envoy_cluster_name=
"outbound|80||checkout"}`. Both are read, so each metric that Prometheus has is asked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.chassis.prometheus import Sample
from services.perf.telemetry.distributions import Distribution, distributions_of, merged
from services.perf.telemetry.promql import Window, grown, histogram, named

OVERFLOWS = {
    "upstream_rq_pending_overflow": "requests refused because too many waited for a connection",
    "upstream_cx_overflow": "connections refused by the limit of connections",
    "upstream_cx_pool_overflow": "connections refused by the limit of connection pools",
    "upstream_rq_retry_overflow": "retries refused by the limit of retries",
}
PENDING = "upstream_rq_pending_active"
NAMES = (
    f"envoy_cluster_(.+_)?(upstream_rq_time_count|upstream_rq|{PENDING}|{'|'.join(OVERFLOWS)})"
    "|envoy_http_(.+_)?downstream_rq_time_count"
)
"""Pattern of all metrics that are read here."""

_UPSTREAM_TIME = "upstream_rq_time_count"
_DOWNSTREAM_TIME = "downstream_rq_time_count"
_CLUSTER = re.compile(r"envoy_cluster_(?:(?P<rest>.+)_)?(?P<what>upstream_\w+)")
_LISTENER = re.compile(rf"envoy_http_(?:(?P<rest>.+)_)?(?P<what>{_DOWNSTREAM_TIME})")
# Envoy counts these a second time, for its own and for other callers.
_COUNTED_TWICE = re.compile(r"(?:^|_)(?:internal|external|canary)$")
_OWN_LISTENERS = ("admin", "agent", "stats", "inbound")
_MOST_NAMES = 10
_METRIC = "meshbus_metric"
_TARGET = ("job", "instance")
_CLUSTER_LABELS = ("cluster_name", "envoy_cluster_name")
_LISTENER_LABELS = ("http_conn_manager_prefix", "envoy_http_conn_manager_prefix")
_CODE_LABELS = ("response_code", "envoy_response_code")


@dataclass(frozen=True, slots=True)
class Name:
    """A metric of the inventory, taken apart."""

    metric: str
    rest: str
    """Of the cluster's or listener's name, where Envoy put it into the metric's."""
    what: str

    @property
    def port(self) -> str:
        """Of a listener."""
        return self.rest.strip("_").rpartition("_")[2]


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster at one proxy."""

    proxy: tuple[str, ...]
    pod: str
    name: str
    """As Envoy has it; where the metric's name held a part, dots may stand as underscores."""

    @property
    def direction(self) -> str:
        """`outbound`, `inbound` or `inbound-vip` (a waypoint's)."""
        return self.name.split("|")[0] if "|" in self.name else "outbound"

    @property
    def host(self) -> str:
        return self.name.split("|")[-1].strip(";_")

    def leads_to(self, services: Iterable[str]) -> bool:
        return any(_begins(self.host, service) for service in services)


@dataclass(frozen=True, slots=True)
class Count:
    """A counter of one cluster, over all proxies."""

    what: str
    cluster: Cluster
    code: str
    """Status of the answers; empty for other counters."""
    value: float


def names_of(inventory: Iterable[str]) -> list[Name]:
    """Those that are Envoy's."""
    found = []
    for metric in sorted(inventory):
        match = _LISTENER.fullmatch(metric) or _CLUSTER.fullmatch(metric)
        if match and not _COUNTED_TWICE.search(match["rest"] or ""):
            found.append(Name(metric, match["rest"] or "", match["what"]))
    return found


def upstream_query(names: Sequence[Name], services: Sequence[str], window: Window) -> str:
    """How long clusters took; empty when there is no such metric."""
    by = (*_TARGET, "pod", *_CLUSTER_LABELS)
    return _histograms(_about(names, services, what=[_UPSTREAM_TIME]), by=by, window=window)


def downstream_query(names: Sequence[Name], ports: Sequence[str], window: Window) -> str:
    """How long listeners took; empty when there is no such metric."""
    listed = [name for name in names if name.what == _DOWNSTREAM_TIME]
    chosen = _chosen(listed, lambda name: name.port in ports)
    return _histograms(chosen, by=(*_TARGET, *_LISTENER_LABELS), window=window)


def counters_query(names: Sequence[Name], services: Sequence[str], window: Window) -> str:
    """Answers by status, and what circuit breakers refused; empty when there is no such metric."""
    by = (*_CLUSTER_LABELS, *_CODE_LABELS)
    chosen = _about(names, services, what=["upstream_rq", *OVERFLOWS])
    return named(((n.metric, grown(n.metric, window=window, by=by)) for n in chosen), label=_METRIC)


def pending_query(names: Sequence[Name], services: Sequence[str], window: Window) -> str:
    """How many requests waited for a connection at the worst moment that was scraped."""
    peaks = [
        (
            n.metric,
            f"max by ({', '.join(_CLUSTER_LABELS)}) (max_over_time({n.metric}[{window.text}])) > 0",
        )
        for n in _about(names, services, what=[PENDING])
    ]
    return named(peaks, label=_METRIC)


def clusters_of(samples: Iterable[Sample]) -> dict[Cluster, Distribution]:
    """Answers of `upstream_query`."""
    return distributions_of(samples, _cluster)


def listeners_of(
    samples: Iterable[Sample], *, proxies: set[tuple[str, ...]], ports: Sequence[str]
) -> Distribution:
    """Answers of `downstream_query`: the listeners of the targets' ports at these proxies.

    Where no listener has such a port (a Service may map it), all of them but the proxies' own.
    """

    def key(labels: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
        return _proxy(labels), _whole(labels, _LISTENER_LABELS, _LISTENER)

    found = {
        (proxy, name): distribution
        for (proxy, name), distribution in distributions_of(samples, key).items()
        if proxy in proxies and not name.startswith(_OWN_LISTENERS)
    }
    of_ports = [
        distribution
        for (_, name), distribution in found.items()
        if name.strip(";_").rpartition("_")[2] in ports
    ]
    return merged(of_ports or found.values())


def counts_of(samples: Iterable[Sample]) -> list[Count]:
    """Answers of `counters_query` and `pending_query`."""
    found = []
    for sample in samples:
        match = _CLUSTER.fullmatch(sample.labels.get(_METRIC, ""))
        if match:
            code = _first(sample.labels, _CODE_LABELS)
            found.append(Count(match["what"], _cluster(sample.labels), code, sample.value))
    return found


def _about(names: Sequence[Name], services: Sequence[str], *, what: Sequence[str]) -> list[Name]:
    """Metrics that may be of the services' clusters."""
    ends = [service.partition(".")[2] for service in services]
    listed = [name for name in names if name.what in what]
    return _chosen(listed, lambda name: any(_begins(name.rest, end) for end in ends))


def _chosen(names: Sequence[Name], is_wanted: Callable[[Name], bool]) -> list[Name]:
    """Metrics of all clusters or listeners, and of the others those wanted, or all if none is."""
    of_all = [name for name in names if not name.rest]
    of_one = [name for name in names if name.rest]
    wanted = [name for name in of_one if is_wanted(name)]
    return [*of_all, *(wanted or of_one)[:_MOST_NAMES]]


def _histograms(names: Sequence[Name], *, by: Sequence[str], window: Window) -> str:
    queries = (
        (n.metric, histogram(n.metric.removesuffix("_count"), window=window, by=by)) for n in names
    )
    return named(queries, label=_METRIC)


def _cluster(labels: Mapping[str, str]) -> Cluster:
    name = _whole(labels, _CLUSTER_LABELS, _CLUSTER).strip(";_")
    return Cluster(_proxy(labels), labels.get("pod", ""), name)


def _proxy(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(label, "") for label in _TARGET)


def _whole(labels: Mapping[str, str], among: Sequence[str], pattern: re.Pattern[str]) -> str:
    """The name of a cluster or listener, with the part that is in the metric's name."""
    match = pattern.fullmatch(labels.get(_METRIC, ""))
    rest = (match["rest"] if match else "") or ""
    return ".".join(part for part in (_first(labels, among), rest) if part)


def _first(labels: Mapping[str, str], among: Sequence[str]) -> str:
    return next((labels[label] for label in among if labels.get(label)), "")


def _begins(name: str, start: str) -> bool:
    """Compares by words, because Envoy writes every other character as an underscore."""
    return f"{_words(name)}_".startswith(f"{_words(start)}_") if start else False


def _words(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
