"""PromQL for the traffic of the whole mesh at once, independent of the number of namespaces.

Three things keep the answers small, for a mesh of 5 000 services has a million series:

* Prometheus joins the labels of an edge to one text and its other labels to another.
  An edge's text repeats from answer to answer and from minute to minute, so it is read once.
* Of double reports the preferred one is chosen there already, where the labels are equal. Those
  that differ only by Istio's mistakes are left to `tallies.py`.
* Of a histogram only the buckets come that are neither empty nor full. The others follow from the
  list of all bounds (`quantiles.py`).

Rejected: `histogram_quantile` in Prometheus, which would read every bucket of the mesh once for
each quantile, and rounding, by which Kiali loses edges below 0.001 requests per second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

EDGE, DETAILS, BOUND = "edge", "details", "le"
SEPARATOR = "|"
"""In no name of Kubernetes, in no valid host and in no SPIFFE id."""
COUNT, SUM = "count", "sum"
"""In the place of a bucket's bound."""

ENDS = (
    "source_cluster",
    "source_workload_namespace",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_cluster",
    "destination_workload_namespace",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_namespace",
    "destination_service_name",
    "destination_service",
)
"""Labels of an edge, in the order in which they are joined."""

REQUESTS = "istio_requests_total"
DURATIONS = "istio_request_duration_milliseconds"


class Amount(StrEnum):
    """What flows without being a request. TCP's names are from the view of the proxy that serves:
    what it received was sent along the edge (istio/istio#32399)."""

    TCP_SENT = "istio_tcp_received_bytes_total"
    TCP_RECEIVED = "istio_tcp_sent_bytes_total"
    GRPC_SENT = "istio_request_messages_total"
    GRPC_RECEIVED = "istio_response_messages_total"

    @property
    def is_tcp(self) -> bool:
        return self.name.startswith("TCP")


DETAILS_OF_REQUESTS = (
    "reporter",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
)
DETAILS_OF_AMOUNTS = ("reporter", "app")
DETAILS_OF_DURATIONS = ("reporter", "request_protocol")
DETAILS_OF_SECURITY = (
    "request_protocol",
    "connection_security_policy",
    "source_principal",
    "destination_principal",
)

# Who is believed where two proxies report the same. The source knows how long the client waited.
REPORTERS = ("waypoint", "destination", "source")
REPORTERS_OF_DURATIONS = ("source", "waypoint", "destination")

# Failures are fast or as slow as a timeout: response times are those of successes.
_SUCCEEDED = 'response_code=~"2..",grpc_response_status=~"0?"'
BOUNDS = f"group by ({BOUND}) ({DURATIONS}_bucket)"


def requests(window_s: float) -> str:
    """Requests per second by edge, and by reporter, protocol, codes and flags."""
    by = (*ENDS, *DETAILS_OF_REQUESTS)
    return _joined(_once(REQUESTS, by, window_s), details=DETAILS_OF_REQUESTS)


def amounts(amount: Amount, window_s: float) -> str:
    """Bytes or messages per second by edge, and by reporter and app of the proxy."""
    by = (*ENDS, *DETAILS_OF_AMOUNTS)
    return _joined(
        _once(amount, by, window_s, ignoring="reporter, app"), details=DETAILS_OF_AMOUNTS
    )


def security(metric: str, window_s: float) -> str:
    """How much came over which kind of connection; sources do not know."""
    by = (*ENDS, *DETAILS_OF_SECURITY)
    selected = _rates(metric, by, window_s, matchers='reporter!="source"')
    return _joined(f"{selected} > 0", details=DETAILS_OF_SECURITY)


def durations(window_s: float) -> str:
    """Buckets, counts and sums of response times by edge, and by reporter and protocol."""
    by = (*ENDS, *DETAILS_OF_DURATIONS)
    counts = _once(
        f"{DURATIONS}_count",
        by,
        window_s,
        reporters=REPORTERS_OF_DURATIONS,
        matchers=_SUCCEEDED,
    )
    buckets = _rates(f"{DURATIONS}_bucket", (*by, BOUND), window_s, matchers=_SUCCEEDED)
    sums = _rates(f"{DURATIONS}_sum", by, window_s, matchers=_SUCCEEDED)
    found = (
        f"(({buckets} > 0) < ignoring ({BOUND}) group_left () ({counts}))"
        f' or label_replace({counts}, "{BOUND}", "{COUNT}", "", "")'
        f' or label_replace({sums} and ({counts}), "{BOUND}", "{SUM}", "", "")'
    )
    return _joined(found, details=DETAILS_OF_DURATIONS, keep=(BOUND,))


def joined(labels: Mapping[str, str], names: Sequence[str]) -> str:
    """Labels as `label_join` joins them: for counters that are read from the proxies themselves."""
    return SEPARATOR.join([labels.get(name, "") for name in names])


def _once(
    metric: str,
    by: Sequence[str],
    window_s: float,
    *,
    reporters: Sequence[str] = REPORTERS,
    matchers: str = "",
    ignoring: str = "reporter",
) -> str:
    """Rates, of each set of labels only those of the first reporter."""
    end = f",{matchers}" if matchers else ""
    found = (
        _rates(metric, by, window_s, matchers=f'reporter="{reporter}"{end}')
        for reporter in reporters
    )
    sides = [f"({rates} > 0)" for rates in found]
    return f" or ignoring ({ignoring}) ".join(sides)


def _rates(metric: str, by: Sequence[str], window_s: float, *, matchers: str) -> str:
    window = f"{max(1, round(window_s * 1000))}ms"
    return f"sum by ({', '.join(by)}) (rate({metric}{{{matchers}}}[{window}]))"


def _joined(vector: str, *, details: Sequence[str], keep: Sequence[str] = ()) -> str:
    by = ", ".join((EDGE, DETAILS, *keep))
    with_details = f'label_join({vector}, "{DETAILS}", "{SEPARATOR}", {_listed(details)})'
    with_edge = f'label_join({with_details}, "{EDGE}", "{SEPARATOR}", {_listed(ENDS)})'
    return f"sum by ({by}) ({with_edge})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
