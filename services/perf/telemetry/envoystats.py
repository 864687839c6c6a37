"""Queries Envoy's own statistics in Prometheus, under both of the names that they may have.

Istio's proxies name a cluster in the label `cluster_name`. An Envoy without Istio's bootstrap takes
the label `envoy_cluster_name`, and cuts names at the first dot: what follows becomes a part of the
metric's name, as in `envoy_cluster_shop_svc_cluster_local_upstream_rq_time{envoy_cluster_name=
"outbound|80||checkout"}`. Both are read, so each metric that Prometheus has is asked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.perf.telemetry.promql import Window, grown, histogram, named

OVERFLOWS = {
    "upstream_rq_pending_overflow": "requests refused because too many waited for a connection",
    "upstream_cx_overflow": "connections refused by the limit of connections",
    "upstream_cx_pool_overflow": "connections refused by the limit of connection pools",
    "upstream_rq_retry_overflow": "retries refused by the limit of retries",
}
PENDING = "upstream_rq_pending_active"
_ANSWERS = "upstream_rq"
_UPSTREAM_TIME = "upstream_rq_time_count"
_DOWNSTREAM_TIME = "downstream_rq_time_count"
NAMES = (
    f"envoy_cluster_(.+_)?({_UPSTREAM_TIME}|{_ANSWERS}|{PENDING}|{'|'.join(OVERFLOWS)})"
    f"|envoy_http_(.+_)?{_DOWNSTREAM_TIME}"
)
"""Pattern of all metrics that are read here."""

_NAME = re.compile(
    rf"envoy_(?:cluster|http)_(?:(?P<part>.+)_)?(?P<what>upstream_\w+|{_DOWNSTREAM_TIME})"
)
# Envoy counts these a second time, for its own and for other callers.
_COUNTED_TWICE = re.compile(r"(?:^|_)(?:internal|external|canary)$")
_MOST_NAMES = 10
_METRIC = "meshbus_metric"
_PROXY = ("job", "instance")
_CLUSTER = ("cluster_name", "envoy_cluster_name")
_LISTENER = ("http_conn_manager_prefix", "envoy_http_conn_manager_prefix")
_CODE = ("response_code", "envoy_response_code")


@dataclass(frozen=True, slots=True)
class Owner:
    """A cluster or a listener of one proxy, which its statistics are about."""

    proxy: tuple[str, ...]
    pod: str
    name: str
    """As Envoy has it; where the metric's name held a part, dots may stand as underscores."""

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Owner:
        part, _ = parsed(labels.get(_METRIC, "")) or ("", "")
        name = ".".join(each for each in (_first(labels, _CLUSTER + _LISTENER), part) if each)
        proxy = tuple(labels.get(label, "") for label in _PROXY)
        return cls(proxy, labels.get("pod", ""), name.strip(";_"))

    @property
    def direction(self) -> str:
        """Of a cluster: `outbound`, `inbound` or `inbound-vip` (a waypoint's)."""
        return self.name.split("|")[0] if "|" in self.name else "outbound"

    @property
    def host(self) -> str:
        """That a cluster leads to."""
        return self.name.split("|")[-1].strip(";_")

    @property
    def port(self) -> str:
        """That a listener is on."""
        return _port(self.name)

    def leads_to(self, services: Iterable[str]) -> bool:
        return any(_begins(self.host, service) for service in services)


def parsed(metric: str) -> tuple[str, str] | None:
    """The part of a cluster's or listener's name in a metric's, and the statistic's name; None for
    a metric that is not read."""
    match = _NAME.fullmatch(metric)
    if not match or _COUNTED_TWICE.search(match["part"] or ""):
        return None
    return match["part"] or "", match["what"]


def what_of(labels: Mapping[str, str]) -> str:
    """Name of a sample's statistic, such as `upstream_rq`."""
    return (parsed(labels.get(_METRIC, "")) or ("", ""))[1]


def code_of(labels: Mapping[str, str]) -> str:
    """Status of the answers; empty for other counters."""
    return _first(labels, _CODE)


# --- queries: each is empty when there is no such metric -----------------------------------------


def upstream_query(names: Iterable[str], services: Sequence[str], window: Window) -> str:
    """How long clusters took."""
    by = (*_PROXY, "pod", *_CLUSTER)
    return _times(_of_services(names, services, [_UPSTREAM_TIME]), by=by, window=window)


def downstream_query(names: Iterable[str], ports: Collection[str], window: Window) -> str:
    """How long listeners took."""
    chosen = _chosen(names, [_DOWNSTREAM_TIME], lambda part: _port(part) in ports)
    return _times(chosen, by=(*_PROXY, *_LISTENER), window=window)


def counters_query(names: Iterable[str], services: Sequence[str], window: Window) -> str:
    """Answers by status, and what circuit breakers refused."""
    by = (*_CLUSTER, *_CODE)
    chosen = _of_services(names, services, [_ANSWERS, *OVERFLOWS])
    return named(((m, grown(m, window=window, by=by)) for m in chosen), label=_METRIC)


def pending_query(names: Iterable[str], services: Sequence[str], window: Window) -> str:
    """How many requests waited for a connection at the worst moment that was scraped."""
    by = ", ".join(_CLUSTER)
    peaks = (
        (metric, f"max by ({by}) (max_over_time({metric}[{window.text}])) > 0")
        for metric in _of_services(names, services, [PENDING])
    )
    return named(peaks, label=_METRIC)


def _times(metrics: Iterable[str], *, by: Sequence[str], window: Window) -> str:
    return named(
        ((m, histogram(m.removesuffix("_count"), window=window, by=by)) for m in metrics),
        label=_METRIC,
    )


def _of_services(names: Iterable[str], services: Sequence[str], what: Sequence[str]) -> list[str]:
    """Metrics that may be of the services' clusters."""
    ends = [service.partition(".")[2] for service in services]
    return _chosen(names, what, lambda part: any(_begins(part, end) for end in ends))


def _chosen(
    names: Iterable[str], what: Sequence[str], is_wanted: Callable[[str], bool]
) -> list[str]:
    """Metrics of all clusters or listeners, and of the others those wanted, or all if none is."""
    parts = {
        metric: found[0]
        for metric in sorted(names)
        if (found := parsed(metric)) and found[1] in what
    }
    of_one = [metric for metric, part in parts.items() if part]
    wanted = [metric for metric in of_one if is_wanted(parts[metric])]
    of_all = [metric for metric, part in parts.items() if not part]
    return of_all + (wanted or of_one)[:_MOST_NAMES]


# --- names ---------------------------------------------------------------------------------------


def _first(labels: Mapping[str, str], among: Sequence[str]) -> str:
    return next((labels[label] for label in among if labels.get(label)), "")


def _port(listener: str) -> str:
    return listener.strip(";_").rpartition("_")[2]


def _begins(name: str, start: str) -> bool:
    """Compares by words, because Envoy writes every other character as an underscore."""
    return f"{_words(name)}_".startswith(f"{_words(start)}_") if start else False


def _words(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
