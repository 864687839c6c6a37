"""What one proxy has counted so far, read from its own pages.

Two forms: the admin interface's JSON, and the page that Prometheus scrapes, which is all that the
outside of a pod may read. Of both, only this is taken:

* Istio's metrics, if the proxy counts any: they name both ends of an edge, as in Prometheus;
* counters and response times of Envoy's clusters, whose names tell which service is called.

Counters are kept by name in a flat mapping: what they grew by is then a difference of two mappings
(`growth.py`), whatever they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from services.topology.telemetry.queries import (
    BOUND,
    COUNT,
    DURATIONS,
    ENDS,
    REQUESTS,
    SUM,
    TOLD_OF_AMOUNTS,
    TOLD_OF_DURATIONS,
    TOLD_OF_REQUESTS,
    TOLD_OF_SECURITY,
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


@dataclass(frozen=True, slots=True)
class OfEdge:
    """A counter of Istio's. `detail` is a bucket's bound."""

    metric: str
    edge: str
    told: str
    detail: str = ""


Counters: TypeAlias = Mapping[OfCluster | OfEdge, float]


@dataclass(frozen=True, slots=True)
class Stats:
    """One reading."""

    counters: Counters
    bounds: frozenset[str]
    """Of the histograms' buckets, those that never counted anything included."""


_COUNTERS = (SENT, RECEIVED)
_MARK = ";"
_CODE = re.compile(r"(?P<cluster>.+)\.upstream_rq_(?P<code>\d{3})\Z")
_ENDS_OF_NAMES = tuple(f".{what}" for what in _COUNTERS)
# Envoy counts answers a second time, for its own and for other callers.
_COUNTED_TWICE = (".internal", ".external", ".canary")

_LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_OF_CLUSTERS = re.compile(
    r"envoy_cluster_(?:(?P<rest>.+)_)?"
    rf"(?P<what>{SENT}|{RECEIVED}|{TIME}_(?:bucket|sum|count)|{COMPLETED})\Z"
)
_CLUSTER_LABELS = ("cluster_name", "envoy_cluster_name")
_CODE_LABELS = ("response_code", "envoy_response_code")
_AMOUNTS = frozenset(Amount)
_ESCAPED = re.compile(r"\\(.)")


# --- the admin interface ------------------------------------------------------------------------


def stats_of_json(body: bytes) -> Stats:
    """Answer of `/stats?format=json&histogram_buckets=cumulative`; raises ValueError for another
    form."""
    found: dict[OfCluster | OfEdge, float] = {}
    try:
        for stat in orjson.loads(body)["stats"]:
            if "histograms" in stat:
                _read_histograms(found, stat["histograms"])
            else:
                _read_counter(found, stat["name"], stat["value"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not Envoy's statistics") from error
    return _stats(found)


def _stats(found: dict[OfCluster | OfEdge, float]) -> Stats:
    """What is counted. Bytes of a cluster that has answered requests are not TCP's."""
    with_requests = {
        counter.cluster
        for counter in found
        if isinstance(counter, OfCluster) and counter.what == COMPLETED
    }
    counters: dict[OfCluster | OfEdge, float] = {}
    bounds: set[str] = set()
    for counter, value in found.items():
        if isinstance(counter, OfCluster):
            if counter.what in _COUNTERS and counter.cluster in with_requests:
                continue
            if counter.what == TIME:
                bounds.add(counter.detail)
        elif counter.metric == DURATIONS:
            bounds.add(counter.detail)
        if value > 0:
            counters[counter] = value
    return Stats(counters, frozenset(bounds))


def _read_counter(found: dict[OfCluster | OfEdge, float], name: str, value: float) -> None:
    if not name.startswith("cluster."):
        return
    name = name.removeprefix("cluster.")
    if name.endswith(_ENDS_OF_NAMES):
        cluster, _, what = name.rpartition(".")
        found[OfCluster(_bare(cluster), what)] = value
    elif (match := _CODE.match(name)) and not match["cluster"].endswith(_COUNTED_TWICE):
        found[OfCluster(_bare(match["cluster"]), COMPLETED, match["code"])] = value


def _bare(cluster: str) -> str:
    """Istio ends its clusters' names with a mark for Envoy's statistics."""
    return cluster.removesuffix(_MARK)


def _read_histograms(found: dict[OfCluster | OfEdge, float], histograms: object) -> None:
    # Without the parameter Envoy tells quantiles, as a mapping.
    for histogram in histograms if isinstance(histograms, list) else ():
        name = str(histogram["name"])
        if not (name.startswith("cluster.") and name.endswith(f".{TIME}")):
            continue
        name = name.removeprefix("cluster.").removesuffix(f".{TIME}")
        if name.endswith(_COUNTED_TWICE):
            continue
        cluster = _bare(name)
        for bucket in histogram["buckets"]:
            bound = f"{bucket['upper_bound']:g}"
            found[OfCluster(cluster, TIME, bound)] = bucket["cumulative"]


# --- the page for Prometheus --------------------------------------------------------------------


def stats_of_text(body: bytes) -> Stats:
    """The page `/stats/prometheus`; lines of other metrics are passed over."""
    found: dict[OfCluster | OfEdge, float] = {}
    for line in body.decode("utf-8", "replace").splitlines():
        if not line.startswith(("istio_", "envoy_cluster_")):
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match["value"])
        except ValueError:
            continue
        for counter in _counters(match["name"], match["labels"]):
            found[counter] = found.get(counter, 0.0) + value
    return _stats(found)


def _counters(name: str, text: str) -> Iterable[OfCluster | OfEdge]:
    if name in (REQUESTS, *_AMOUNTS) or name.startswith(DURATIONS):
        yield from _of_edge(name, _labels(text))
    elif match := _OF_CLUSTERS.match(name):
        labels = _labels(text)
        cluster = _cluster_name(labels, match["rest"] or "")
        what = match["what"]
        if not cluster or cluster.endswith(_COUNTED_TWICE):
            return
        if what == COMPLETED:
            yield OfCluster(cluster, COMPLETED, _first(labels, _CODE_LABELS))
        elif what.startswith(TIME):
            yield OfCluster(cluster, TIME, _bound(what, labels))
        else:
            yield OfCluster(cluster, what)


def _of_edge(name: str, labels: Mapping[str, str]) -> Iterable[OfEdge]:
    edge = joined(labels, ENDS)
    if name == REQUESTS:
        yield OfEdge(name, edge, joined(labels, TOLD_OF_REQUESTS))
    elif name in _AMOUNTS:
        yield OfEdge(name, edge, joined(labels, TOLD_OF_AMOUNTS))
    elif labels.get("response_code", "").startswith("2"):
        told = joined(labels, TOLD_OF_DURATIONS)
        yield OfEdge(DURATIONS, edge, told, _bound(name, labels))
    if name in (REQUESTS, Amount.TCP_RECEIVED) and labels.get("reporter") != "source":
        yield OfEdge(f"security of {name}", edge, joined(labels, TOLD_OF_SECURITY))


def _bound(name: str, labels: Mapping[str, str]) -> str:
    if name.endswith("_bucket"):
        return labels.get(BOUND, "")
    return SUM if name.endswith("_sum") else COUNT


def _cluster_name(labels: Mapping[str, str], rest: str) -> str:
    """An Envoy without Istio's bootstrap cuts names at the first dot, and makes what follows a part
    of the metric's name, with all other characters as underscores."""
    name = _bare(_first(labels, _CLUSTER_LABELS))
    # A namespace has no dots.
    namespace, is_service, domain = rest.removesuffix("_").partition("_svc_")
    if is_service:
        return f"{name}.{namespace.replace('_', '-')}.svc.{domain.replace('_', '.')}"
    return ".".join(part for part in (name, rest.strip("_").replace("_", ".")) if part)


def _first(labels: Mapping[str, str], among: Iterable[str]) -> str:
    return next((labels[label] for label in among if labels.get(label)), "")


def _labels(text: str) -> dict[str, str]:
    return {
        name: _ESCAPED.sub(r"\1", value) if "\\" in value else value
        for name, value in _LABEL.findall(text)
    }
