"""Reads points of the path, and refusals of circuit breakers, from Envoy's own statistics.

They split a proxy's time into its own part and what is behind it, and they are all there is where
an Envoy without Istio's telemetry is the first proxy of the mesh.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from services.perf.measurements.measurements import Measurement
from services.perf.telemetry import envoystats
from services.perf.telemetry.envoystats import OVERFLOWS, PENDING, Owner
from services.perf.telemetry.findings import Findings, guessed
from services.perf.telemetry.istio import UNKNOWN, Path, is_error, latency_of
from services.perf.telemetry.promql import Distribution, distributions_of, merged
from services.perf.telemetry.shares import At, Point
from services.perf.telemetry.verdicts import Edge

Clusters = Mapping[Owner, Distribution]

_UPSTREAM = "envoy_cluster_upstream_rq_time"
_DOWNSTREAM = "envoy_http_downstream_rq_time"
_OWN_CLUSTERS = ("xds-grpc", "sds-grpc", "sds-files-grpc", "agent", "prometheus_stats", "zipkin")
_OWN_LISTENERS = ("admin", "agent", "stats", "inbound")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_BEHIND = {
    At.SOURCE: (At.SOURCE_UPSTREAM, "outbound"),
    At.WAYPOINT: (At.WAYPOINT_UPSTREAM, "inbound-vip"),
    At.DESTINATION: (At.DESTINATION_UPSTREAM, "inbound"),
}
"""The point behind each proxy, and the direction of the clusters that measure it."""
_LEAST_PENDING = 2.0


async def points_behind(findings: Findings, last: At, path: Path) -> list[Point]:
    """Reads how long the last proxy that reported waited for its upstream."""
    known, query = await _clusters(findings, [path.service])
    at, direction = _BEHIND[last]
    # An inbound cluster's name holds no service; the pod tells whose it is.
    pods = tuple(f"{workload.rpartition('.')[0]}-" for workload in path.behind)
    whole = merged(
        distribution
        for cluster, distribution in known.items()
        if cluster.direction == direction
        and (
            cluster.pod.startswith(pods)
            if direction == "inbound"
            else cluster.leads_to([path.service])
        )
    )
    if not whole.count:
        return []
    return [findings.add_point(Point(at, whole.count, whole.mean), query=query)]


async def points_of(findings: Findings, measurement: Measurement) -> list[Point]:
    """Reads how long requests took before and behind an Envoy that is the first proxy."""
    services = measurement.services
    known, upstream_query = await _clusters(findings, services)
    found = {
        cluster: distribution
        for cluster, distribution in known.items()
        if cluster.direction == "outbound" and cluster.name not in _OWN_CLUSTERS
    }
    of_service = {c: d for c, d in found.items() if c.leads_to(services)}
    if not of_service and found and not measurement.service:
        counts: defaultdict[str, float] = defaultdict(float)
        for cluster, distribution in found.items():
            counts[cluster.host] += round(distribution.count)
        service, findings.guess = guessed(counts)
        services = [service]
        of_service = {c: d for c, d in found.items() if c.leads_to(services)}
    if not of_service:
        return []
    codes = await check_circuit_breakers(findings, services, connections=measurement.connections)
    upstream = merged(of_service.values())
    proxies = {cluster.proxy for cluster in of_service}
    downstream, downstream_query = await _downstream(findings, measurement, proxies)
    points = []
    if downstream.count:
        point = Point(At.SOURCE, downstream.count, downstream.mean)
        points.append(findings.add_point(point, query=downstream_query))
    point = Point(At.SOURCE_UPSTREAM, upstream.count, upstream.mean)
    points.append(findings.add_point(point, query=upstream_query))
    ends = {"downstream": downstream, "upstream": upstream}
    findings.edges.append(
        Edge(
            source=UNKNOWN,
            destination=UNKNOWN,
            service=min(cluster.host for cluster in of_service),
            requests=round(sum(codes.values()), 1),
            errors=round(sum(count for code, count in codes.items() if is_error(code)), 1),
            latencies=[latency_of(name, one) for name, one in ends.items() if one.count],
        )
    )
    return points


async def check_circuit_breakers(
    findings: Findings, services: Sequence[str], *, connections: int
) -> dict[str, float]:
    """Adds overflows and queues for connections. Returns the services' answers by status."""
    names, window = findings.names, findings.window
    counters = envoystats.counters_query(names, services, window)
    pending = envoystats.pending_query(names, services, window)
    if not counters:
        findings.missing.append(
            "envoy_cluster_upstream_rq_pending_overflow and its like: what circuit breakers refused"
        )
    counted, waited = await asyncio.gather(
        findings.ask(counters, what="Envoy's counters"),
        findings.ask(pending, what=f"envoy_cluster_{PENDING}"),
    )
    codes: defaultdict[str, float] = defaultdict(float)
    for labels, count in counted:
        what, cluster = envoystats.what_of(labels), Owner.of(labels)
        if what in OVERFLOWS:
            text = f"{count:.0f} {OVERFLOWS[what]} ({what} of {cluster.name})"
            findings.add_saturated(what, cluster.name, count, text=text, query=counters)
        elif cluster.direction == "outbound" and cluster.leads_to(services):
            codes[envoystats.code_of(labels)] += count
    for labels, count in waited:
        # A new connection makes one request wait; half of all that are under way is a queue.
        if count >= max(_LEAST_PENDING, connections / 2):
            name = Owner.of(labels).name
            text = f"{count:.0f} requests at once waited for a connection to {name}"
            findings.add_saturated("pending", name, count, text=text, query=pending)
    return codes


async def _clusters(findings: Findings, services: Sequence[str]) -> tuple[Clusters, str]:
    """How long each cluster that may lead to the services took, at each proxy; and the query."""
    query = envoystats.upstream_query(findings.names, services, findings.window)
    if not query:
        findings.missing.append(f"{_UPSTREAM}: what of a proxy's time is its own")
    return distributions_of(await findings.ask(query, what=_UPSTREAM), Owner.of), query


async def _downstream(
    findings: Findings, measurement: Measurement, proxies: set[tuple[str, ...]]
) -> tuple[Distribution, str]:
    """How long these proxies took for the requests that came in; and the query.

    Those of the listeners of the targets' ports. Where no listener has such a port (a Service may
    map it), of all listeners but the proxies' own.
    """
    addresses = [target.address for target in measurement.targets]
    ports = {str(one.port or _DEFAULT_PORTS.get(one.scheme, "")) for one in addresses}
    query = envoystats.downstream_query(findings.names, ports, findings.window)
    if not query:
        findings.missing.append(f"{_DOWNSTREAM}: the whole time of the first proxy")
    found = distributions_of(await findings.ask(query, what=_DOWNSTREAM), Owner.of)
    listeners = {
        listener: distribution
        for listener, distribution in found.items()
        if listener.proxy in proxies and not listener.name.startswith(_OWN_LISTENERS)
    }
    of_ports = [one for listener, one in listeners.items() if listener.port in ports]
    return merged(of_ports or listeners.values()), query
