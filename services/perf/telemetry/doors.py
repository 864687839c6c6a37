"""Points of the way that only Envoy's own statistics have.

They split a proxy's time into its own part and what is behind it, and they are all there is where
an Envoy without Istio's telemetry stands at the mesh's door.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.perf.measurements.measurements import Measurement
from services.perf.telemetry import edges, envoys, pressures
from services.perf.telemetry.distributions import Distribution, merged
from services.perf.telemetry.envoys import Cluster
from services.perf.telemetry.splits import At, Point
from services.perf.telemetry.telemetry import Findings
from services.perf.telemetry.verdicts import Edge

Clusters = Mapping[Cluster, Distribution]

_METRIC = "envoy_cluster_upstream_rq_time"
_OWN_CLUSTERS = ("xds-grpc", "sds-grpc", "sds-files-grpc", "agent", "prometheus_stats", "zipkin")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Way:
    """What proxies measured, and how the service was found where nobody named it."""

    points: list[Point]
    guess: str = ""


async def clusters(findings: Findings, services: list[str]) -> tuple[Clusters, str]:
    """How long each cluster that may lead to the services took, at each proxy; and the query."""
    query = envoys.upstream_query(envoys.names_of(findings.names), services, findings.window)
    if not query:
        findings.missing.append(f"{_METRIC}: what of a proxy's time is its own")
    return envoys.clusters_of(await findings.ask(query, what=_METRIC)), query


async def behind(findings: Findings, at: At, *, path: edges.Path) -> list[Point]:
    """The part behind the last proxy that reported, where its Envoy tells it."""
    known, query = await clusters(findings, [path.service])
    pods = tuple(f"{workload.rpartition('.')[0]}-" for workload in path.behind)
    chosen: Iterable[Distribution]
    match at:
        case At.SOURCE:
            upstream = At.SOURCE_UPSTREAM
            chosen = _leading(known, "outbound", [path.service])
        case At.WAYPOINT:
            upstream = At.WAYPOINT_UPSTREAM
            chosen = _leading(known, "inbound-vip", [path.service])
        case _:
            upstream = At.DESTINATION_UPSTREAM
            # The cluster's name holds no service; the pod tells whose it is.
            chosen = [
                distribution
                for cluster, distribution in known.items()
                if cluster.direction == "inbound" and pods and cluster.pod.startswith(pods)
            ]
    whole = merged(chosen)
    if not whole.count:
        return []
    text = f"{upstream}: {whole.count:.0f} requests, mean {whole.mean:.1f} ms"
    findings.see(text, whole.mean, query=query)
    return [Point(upstream, whole.count, whole.mean)]


async def way(findings: Findings, measurement: Measurement) -> Way:
    """The way through an Envoy at the door: before it, in it, behind it."""
    services = [measurement.service] if measurement.service else edges.hosts_of(measurement)
    known, upstream_query = await clusters(findings, services)
    found = {
        cluster: distribution
        for cluster, distribution in known.items()
        if cluster.direction == "outbound" and cluster.name not in _OWN_CLUSTERS
    }
    of_service = {c: d for c, d in found.items() if c.leads_to(services)}
    guess = ""
    if not of_service and found and not measurement.service:
        services = [_busiest(found)]
        guess = f"the service under test was not named; {services[0]} got most requests"
        of_service = {c: d for c, d in found.items() if c.leads_to(services)}
    if not of_service:
        return Way([])
    codes = await pressures.see_breakers(findings, services, connections=measurement.connections)
    upstream = merged(of_service.values())
    downstream, downstream_query = await _downstream(findings, measurement, of_service)
    points = [Point(At.SOURCE_UPSTREAM, upstream.count, upstream.mean)]
    if downstream.count:
        points.insert(0, Point(At.SOURCE, downstream.count, downstream.mean))
    queries = {At.SOURCE: downstream_query, At.SOURCE_UPSTREAM: upstream_query}
    for point in points:
        text = f"{point.at}: {point.requests:.0f} requests, mean {point.mean_ms:.1f} ms"
        findings.see(text, point.mean_ms, query=queries[point.at])
    findings.edges.append(_edge(of_service, downstream, codes))
    return Way(points, guess)


async def _downstream(
    findings: Findings, measurement: Measurement, of_service: Clusters
) -> tuple[Distribution, str]:
    """How long the same proxies took for the requests that came in, and by which query."""
    ports = _ports(measurement)
    query = envoys.downstream_query(envoys.names_of(findings.names), ports, findings.window)
    if not query:
        findings.missing.append("envoy_http_downstream_rq_time: the whole time of the first proxy")
    samples = await findings.ask(query, what="envoy_http_downstream_rq_time")
    proxies = {cluster.proxy for cluster in of_service}
    return envoys.listeners_of(samples, proxies=proxies, ports=ports), query


def _edge(of_service: Clusters, downstream: Distribution, codes: Mapping[str, float]) -> Edge:
    host = min(cluster.host for cluster in of_service)
    ends = {"downstream": downstream, "upstream": merged(of_service.values())}
    return Edge(
        source=edges.UNKNOWN,
        destination=edges.UNKNOWN,
        service=host,
        requests=round(sum(codes.values()), 1),
        errors=round(sum(count for code, count in codes.items() if edges.is_error(code)), 1),
        latencies=[edges.latency_of(name, one) for name, one in ends.items() if one.count],
    )


def _leading(clusters: Clusters, direction: str, services: list[str]) -> list[Distribution]:
    return [
        distribution
        for cluster, distribution in clusters.items()
        if cluster.direction == direction and cluster.leads_to(services)
    ]


def _busiest(clusters: Clusters) -> str:
    counts: Counter[str] = Counter()
    for cluster, distribution in clusters.items():
        counts[cluster.host] += round(distribution.count)
    return counts.most_common(1)[0][0]


def _ports(measurement: Measurement) -> list[str]:
    """Of the targets; those that every scheme has where a URL has none."""
    parts = [urlsplit(target.url) for target in measurement.targets if "//" in target.url]
    parts += [urlsplit(f"//{t.url}") for t in measurement.targets if "//" not in t.url]
    return [str(part.port or _DEFAULT_PORTS.get(part.scheme, "")) for part in parts]
