"""Flows out of the rates of Envoy's clusters, whose names are Istio's.

    outbound|80|v2|reviews.shop.svc.cluster.local     what a proxy calls
    outbound_.80_.v2_.reviews.shop.svc.cluster.local  the same, passed on by an east-west gateway
    inbound-vip|80|http|reviews.shop.svc.cluster.local  what a waypoint passes on
    inbound|9080||                                    what the workload itself gets
    PassthroughCluster, BlackHoleCluster              unknown hosts

Of incoming traffic the source is not known. It is shown only where no caller reports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.topology.cluster import hosts
from services.topology.telemetry import stats
from services.topology.telemetry.edges import BLACK_HOLE, PASSTHROUGH, IsWaypoint
from services.topology.telemetry.quantiles import Bounds, quantiles
from services.topology.telemetry.stats import OfCluster
from services.topology.telemetry.traffic import Answers, Called, Flow, FlowKey, Peer, Protocol

_INBOUND_PASSTHROUGH = "InboundPassthrough"
_OUTBOUND = ("outbound", "inbound-vip")
_SNI = "outbound_."
_NONE = "-"


@dataclass(slots=True)
class _Sums:
    """Rates of all clusters that lead to the same service."""

    codes: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, float] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Ends:
    source: Peer
    called: Called
    destination: Peer


def flows_of_clusters(
    proxies: Iterable[tuple[Peer, Mapping[OfCluster, float]]],
    *,
    bounds: Bounds,
    is_waypoint: IsWaypoint,
) -> dict[FlowKey, Flow]:
    """Flows of the proxies that do not count Istio's metrics."""
    sums: dict[_Ends, _Sums] = {}
    for peer, rates in proxies:
        for counter, rate in rates.items():
            ends = _ends(counter.cluster, peer)
            if ends is not None:
                _add(sums.setdefault(ends, _Sums()), counter, rate)
    served = {(ends.called.namespace, ends.called.name) for ends in sums if ends.called.name}
    found: dict[FlowKey, Flow] = {}
    for ends, of_ends in sums.items():
        if ends.source.is_unknown and _has_caller(ends.destination, served):
            continue
        flow = _flow(of_ends, ends, bounds=bounds, is_waypoint=is_waypoint)
        if flow is not None:
            protocol = Protocol.HTTP if of_ends.codes else Protocol.TCP
            found[FlowKey(ends.source, ends.called, ends.destination, protocol)] = flow
    return found


def called_of(cluster: str) -> Called | None:
    """The service behind a cluster's name; None where a cluster is none of the mesh's traffic."""
    if cluster in (PASSTHROUGH, BLACK_HOLE):
        return Called(name=cluster)
    if cluster.startswith(_SNI):
        parts = cluster.split("_.", 3)
        return _called(parts[3]) if len(parts) == 4 else None
    direction, _, rest = cluster.partition("|")
    host = rest.rpartition("|")[2]
    return _called(host) if direction in _OUTBOUND and host else None


def _called(host: str) -> Called:
    service = hosts.service_of(host)
    if service is None:
        return Called(name=host, host=host)
    namespace, name = service
    return Called(namespace=namespace, name=name, host=host)


def _ends(cluster: str, peer: Peer) -> _Ends | None:
    if cluster.startswith(("inbound|", _INBOUND_PASSTHROUGH)):
        return _Ends(Peer(), Called(), peer)
    called = called_of(cluster)
    if called is None:
        return None
    is_foreign = not called.namespace
    in_cluster = called if is_foreign else Called(peer.cluster, *_rest(called))
    return _Ends(peer, in_cluster, Peer())


def _rest(called: Called) -> tuple[str, str, str]:
    return called.namespace, called.name, called.host


def _has_caller(destination: Peer, served: set[tuple[str, str]]) -> bool:
    """Whether a caller reports a service that has the name of the workload's app."""
    return any(
        (destination.namespace, n) in served for n in (destination.app, destination.workload)
    )


def _add(sums: _Sums, counter: OfCluster, rate: float) -> None:
    match counter.what:
        case stats.COMPLETED:
            sums.codes[counter.detail] = sums.codes.get(counter.detail, 0.0) + rate
        case stats.TIME:
            sums.times[counter.detail] = sums.times.get(counter.detail, 0.0) + rate
        case what:
            sums.bytes[what] = sums.bytes.get(what, 0.0) + rate


def _flow(sums: _Sums, ends: _Ends, *, bounds: Bounds, is_waypoint: IsWaypoint) -> Flow | None:
    waypoint = "from" if is_waypoint(ends.source) else ""
    if sums.codes:
        host = ends.called.host
        answers = (Answers(code, _NONE, host, rate) for code, rate in sums.codes.items())
        times = quantiles(sums.times, bounds)
        return Flow(answers=tuple(answers), response_ms=times, waypoint=waypoint)
    if sums.bytes:
        return Flow(
            sent=sums.bytes.get(stats.SENT, 0.0),
            received=sums.bytes.get(stats.RECEIVED, 0.0),
            waypoint=waypoint,
        )
    return None
