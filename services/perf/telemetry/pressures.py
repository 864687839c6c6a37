"""What was full during a run: limits of containers, circuit breakers, connection pools; and istiod.

Where Istio is as it comes, its proxies export next to no statistics of clusters, and what a circuit
breaker refused shows as a response flag only; so both are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.perf.telemetry import envoys, resources
from services.perf.telemetry.edges import Path
from services.perf.telemetry.envoys import OVERFLOWS, PENDING
from services.perf.telemetry.telemetry import Findings

_FLAGS = {
    "UO": "were refused by a circuit breaker",
    "UH": "found no healthy endpoint",
    "UF": "could not connect to an endpoint",
    "URX": "used up their retries or connection attempts",
    "DC": "were given up by the client",
    "UT": "timed out at the proxy",
    "UC": "lost the connection to the endpoint",
}
_LEAST_PENDING = 2.0


def see_flags(findings: Findings, path: Path, *, query: str) -> None:
    """Response flags that tell of something full or broken."""
    for ends, traffic in (*path.into.items(), *path.beyond.items()):
        for flag, count in sorted(traffic.flags.items()):
            if flag in _FLAGS:
                text = f"{count:.0f} requests of {ends.source} to {ends.service} {_FLAGS[flag]}"
                findings.fill(flag, ends.service, count, text=f"{text} ({flag})", query=query)


async def see_breakers(
    findings: Findings, services: Sequence[str], *, connections: int
) -> dict[str, float]:
    """Overflows, and waiting for connections. Returns the services' answers by status."""
    names = envoys.names_of(findings.names)
    counters = envoys.counters_query(names, services, findings.window)
    pending = envoys.pending_query(names, services, findings.window)
    if not counters:
        findings.missing.append(
            "envoy_cluster_upstream_rq_pending_overflow and its like: what circuit breakers refused"
        )
    counted, waited = await asyncio.gather(
        findings.ask(counters, what="Envoy's counters"),
        findings.ask(pending, what=f"envoy_cluster_{PENDING}"),
    )
    codes: dict[str, float] = {}
    for one in envoys.counts_of(counted):
        if one.what in OVERFLOWS:
            text = f"{one.value:.0f} {OVERFLOWS[one.what]} ({one.what} of {one.cluster.name})"
            findings.fill(one.what, one.cluster.name, one.value, text=text, query=counters)
        elif one.cluster.direction == "outbound" and one.cluster.leads_to(services):
            codes[one.code] = codes.get(one.code, 0.0) + one.value
    for one in envoys.counts_of(waited):
        # A new connection makes one request wait; half of all that are under way is a queue.
        if one.value >= max(_LEAST_PENDING, connections / 2):
            text = f"{one.value:.0f} requests at once waited for a connection to {one.cluster.name}"
            findings.fill("pending", one.cluster.name, one.value, text=text, query=pending)
    return codes


async def see_containers(findings: Findings, path: Path | None) -> None:
    """Processor and memory of the run's workloads and of the mesh's own pods."""
    window, workloads = findings.window, path.workloads if path else set()
    if not findings.has(resources.CPU, tells="processor and memory of proxies and applications"):
        await _see_processes(findings)
        return
    cpu = resources.cpu_query(workloads, window)
    memory = resources.memory_query(workloads, window)
    throttled = resources.throttled_query(workloads, window)
    limits = resources.limits_query(workloads, window)
    cores, bytes_used, shares, limited = await asyncio.gather(
        findings.ask(cpu, what=resources.CPU),
        findings.ask(memory, what=resources.MEMORY),
        findings.ask(throttled if resources.THROTTLED in findings.names else "", what="throttling"),
        findings.ask(limits if resources.LIMITS in findings.names else "", what=resources.LIMITS),
    )
    if findings.has(resources.LIMITS, tells="limits of containers"):
        for what, used, query in (("cpu", cores, cpu), ("memory", bytes_used, memory)):
            findings.saturated += resources.near_limits(
                resources.containers_of(used),
                resources.containers_of(limited, resource=what),
                what=what,
                query=query,
            )
    findings.saturated += resources.throttled(resources.containers_of(shares), query=throttled)
    findings.evidence += resources.busiest(resources.containers_of(cores), query=cpu)
    if not cores:
        findings.missing.append(f"{resources.CPU}: two samples in the window, of these pods")


async def _see_processes(findings: Findings) -> None:
    """What processes say of themselves, where nobody scrapes containers."""
    if resources.PROCESS_CPU in findings.names:
        query = resources.process_cpu_query(findings.window)
        found = await findings.ask(query, what=resources.PROCESS_CPU)
        findings.evidence += resources.processes(found, unit="cores", query=query)
    if resources.ENVOY_MEMORY in findings.names:
        query = resources.envoy_memory_query(findings.window)
        found = await findings.ask(query, what=resources.ENVOY_MEMORY)
        findings.evidence += resources.processes(found, unit="bytes", query=query)


async def see_istiod(findings: Findings) -> None:
    """How long istiod took to bring changes to the proxies, where it is scraped."""
    known = [metric for metric in resources.ISTIOD_TIMES if f"{metric}_count" in findings.names]
    if not known:
        names = " and ".join(resources.ISTIOD_TIMES)
        findings.missing.append(f"{names}: how long istiod took to bring changes to the proxies")
    for metric in known:
        query = resources.istiod_query(metric, findings.window)
        found = await findings.ask(query, what=metric)
        findings.evidence += resources.istiod_times(found, metric=metric, query=query)
