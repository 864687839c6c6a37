"""The counters of one proxy, from the page that Prometheus scrapes.

The admin interface has it, and the outside of a pod may read no other. Of it, only this is taken:

* Istio's metrics, if the proxy counts any: they name both ends of an edge, as in Prometheus;
* counters and response times of Envoy's clusters, whose names tell which service is called.

Counters are kept by name in a flat mapping: what they grew by is then a difference of two mappings
(`envoy.py`), for every kind of counter. Pages repeat their series from reading to reading, and the
parser is much dearer than a look-up, so the labels of a series are parsed once.

Rejected: the admin interface's JSON, a second format that only the addresses in the settings have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

from cachetools import LRUCache, cached
from prometheus_client.parser import text_string_to_metric_families

from services.topology.telemetry.queries import (
    COUNT,
    DETAILS_OF_AMOUNTS,
    DETAILS_OF_DURATIONS,
    DETAILS_OF_REQUESTS,
    DETAILS_OF_SECURITY,
    DURATIONS,
    ENDS,
    REQUESTS,
    SUM,
    Amount,
    joined,
)

COMPLETED, TIME = "upstream_rq", "upstream_rq_time"
SENT, RECEIVED = "upstream_cx_tx_bytes_total", "upstream_cx_rx_bytes_total"


@dataclass(frozen=True, slots=True)
class OfCluster:
    """A counter of one of Envoy's clusters. `detail` is a response code or a bucket's bound."""

    cluster: str
    what: str
    detail: str = ""

    def below(self, bound: str) -> OfCluster:
        """The bucket of a histogram that ends there."""
        return OfCluster(self.cluster, self.what, bound)


@dataclass(frozen=True, slots=True)
class OfEdge:
    """A counter of Istio's. `detail` is a bucket's bound."""

    metric: str
    edge: str
    details: str
    detail: str = ""

    def below(self, bound: str) -> OfEdge:
        return OfEdge(self.metric, self.edge, self.details, bound)


Counter: TypeAlias = OfCluster | OfEdge


@dataclass(frozen=True, slots=True)
class Stats:
    """One reading."""

    counters: Mapping[Counter, float]
    bounds: frozenset[str]
    """Of the histograms' buckets, those that never counted anything included."""


_BYTES = (SENT, RECEIVED)
_OF_CLUSTERS = (*_BYTES, f"{TIME}_bucket", f"{TIME}_sum", f"{TIME}_count", COMPLETED)
# Envoy counts answers a second time, for its own and for other callers.
_COUNTED_TWICE = (".internal", ".external", ".canary")
_CLUSTER_LABELS = ("cluster_name", "envoy_cluster_name")
_CODE_LABELS = ("response_code", "envoy_response_code")
_AMOUNTS = frozenset(Amount)
_MOST_SERIES = 100_000


def stats_of(body: bytes) -> Stats:
    """The page `/stats/prometheus`; series of other metrics, and lines that are none, are passed
    over."""
    found: dict[Counter, float] = {}
    for line in body.decode("utf-8", "replace").splitlines():
        if not line.startswith(("istio_", "envoy_cluster_")):
            continue
        series, _, text = line.rpartition("} ")
        try:
            value = float(text.partition(" ")[0])
        except ValueError:
            continue
        # Envoy writes the bound last. Without it, all buckets of a histogram are one series.
        series, is_bucket, bound = series.partition(',le="')
        for counter in _counters(series):
            if is_bucket:
                counter = counter.below(bound.removesuffix('"'))
            found[counter] = found.get(counter, 0.0) + value
    return _stats(found)


def _stats(found: Mapping[Counter, float]) -> Stats:
    """Drops zeros, and bytes of clusters with requests: these are not TCP's."""
    with_requests = {
        counter.cluster
        for counter in found
        if isinstance(counter, OfCluster) and counter.what == COMPLETED
    }
    counters: dict[Counter, float] = {}
    bounds: set[str] = set()
    for counter, value in found.items():
        if isinstance(counter, OfCluster):
            if counter.what in _BYTES and counter.cluster in with_requests:
                continue
            if counter.what == TIME:
                bounds.add(counter.detail)
        elif counter.metric == DURATIONS:
            bounds.add(counter.detail)
        if value > 0:
            counters[counter] = value
    return Stats(counters, frozenset(bounds))


def _digest(series: str) -> bytes:
    """A series' text may be a kilobyte: too long to keep a hundred thousand of them."""
    return blake2b(series.encode(), digest_size=16).digest()


@cached(LRUCache(maxsize=_MOST_SERIES), key=_digest)
def _counters(series: str) -> tuple[Counter, ...]:
    """The counters of a series: its text is a line's, up to the last label."""
    try:
        ((sample,),) = [
            metric.samples for metric in text_string_to_metric_families(f"{series}}} 0")
        ]
    except ValueError:
        return ()
    name: str = sample.name
    if name in (REQUESTS, *_AMOUNTS) or name.startswith(DURATIONS):
        return tuple(_of_edge(name, sample.labels))
    return tuple(_of_cluster(name.removeprefix("envoy_cluster_"), sample.labels))


def _of_cluster(name: str, labels: Mapping[str, str]) -> Iterator[OfCluster]:
    for what in _OF_CLUSTERS:
        if name == what or name.endswith(f"_{what}"):
            break
    else:
        return
    cluster = _cluster_name(labels, name.removesuffix(what).rstrip("_"))
    if not cluster or cluster.endswith(_COUNTED_TWICE):
        return
    if what == COMPLETED:
        yield OfCluster(cluster, COMPLETED, _first(labels, _CODE_LABELS))
    elif what in _BYTES:
        yield OfCluster(cluster, what)
    else:
        yield OfCluster(cluster, TIME, _total(what))


def _of_edge(name: str, labels: Mapping[str, str]) -> Iterator[OfEdge]:
    edge = joined(labels, ENDS)
    if name == REQUESTS:
        yield OfEdge(name, edge, joined(labels, DETAILS_OF_REQUESTS))
    elif name in _AMOUNTS:
        yield OfEdge(name, edge, joined(labels, DETAILS_OF_AMOUNTS))
    elif labels.get("response_code", "").startswith("2"):
        yield OfEdge(DURATIONS, edge, joined(labels, DETAILS_OF_DURATIONS), _total(name))
    if name in (REQUESTS, Amount.TCP_RECEIVED) and labels.get("reporter") != "source":
        yield OfEdge(f"security of {name}", edge, joined(labels, DETAILS_OF_SECURITY))


def _total(name: str) -> str:
    """The detail of a histogram's sum or count, in the place of a bucket's bound."""
    return SUM if name.endswith("_sum") else COUNT


def _cluster_name(labels: Mapping[str, str], rest: str) -> str:
    """An Envoy without Istio's bootstrap cuts names at the first dot, and makes what follows a part
    of the metric's name, with all other characters as underscores."""
    # Istio ends its clusters' names with a mark for Envoy's statistics.
    name = _first(labels, _CLUSTER_LABELS).removesuffix(";")
    # A namespace has no dots.
    namespace, is_service, domain = rest.partition("_svc_")
    if is_service:
        return f"{name}.{namespace.replace('_', '-')}.svc.{domain.replace('_', '.')}"
    return ".".join(part for part in (name, rest.strip("_").replace("_", ".")) if part)


def _first(labels: Mapping[str, str], among: tuple[str, ...]) -> str:
    return next((labels[label] for label in among if labels.get(label)), "")
