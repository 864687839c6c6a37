"""Asks the mesh's telemetry about a run's window and makes a verdict of the answers.

All queries are evaluated at the window's end, never now, so that a verdict can be made again later.
There are about a dozen, for all edges and pods at once, in three rounds: what there is at all, what
was requested, and then the rest about the edges that belong to the run.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.telemetry import doors, edges, envoys, pressures, resources
from services.perf.telemetry.promql import Window
from services.perf.telemetry.splits import At, Point, split
from services.perf.telemetry.telemetry import Findings, Metrics
from services.perf.telemetry.verdicts import Verdict

__all__ = ["Metrics", "correlate"]

_INVENTORY = "|".join(
    (
        edges.REQUESTS,
        f"{edges.DURATIONS}_count",
        edges.CONNECTIONS,
        resources.CPU,
        resources.LIMITS,
        resources.THROTTLED,
        resources.PROCESS_CPU,
        resources.ENVOY_MEMORY,
        *(f"{metric}_count" for metric in resources.ISTIOD_TIMES),
        envoys.NAMES,
    )
)
_SHORTEST_LATE_MS = 1.0


async def correlate(
    metrics: Metrics, *, measurement: Measurement, window: tuple[datetime, datetime]
) -> Verdict:
    """The verdict on a run from its start to its end. Failing telemetry is told in it, not raised.

    The window may end a scrape after the run, so that its last requests are counted, too.
    """
    findings = Findings(metrics, Window(*window))
    points, scrapes, guess = [_generator(findings, measurement)], None, ""
    names = await findings.ask(_inventory(), what="the list of metrics")
    findings.names = {sample.labels.get("__name__", "") for sample in names}
    if findings.names:
        scrapes, path = await asyncio.gather(_scrapes(findings), _path(findings, measurement))
        way, *_ = await asyncio.gather(
            _way(findings, measurement, path),
            pressures.see_containers(findings, path),
            pressures.see_istiod(findings),
        )
        points += way.points
        guess = way.guess
    elif not findings.missing:
        findings.missing.append("any metric of a mesh: neither proxies nor istiod are scraped")
    result = split(points, scrapes=scrapes, guess=guess)
    return Verdict(
        start=findings.window.start,
        end=findings.window.end,
        place=result.place,
        confidence=result.confidence,
        reason=result.reason,
        scrapes=scrapes or 0.0,
        shares=result.shares,
        saturated=findings.saturated,
        evidence=findings.evidence,
        missing=findings.missing,
        edges=findings.edges,
    )


def _inventory() -> str:
    return f'count by (__name__) ({{__name__=~"{_INVENTORY}"}})'


def _generator(findings: Findings, measurement: Measurement) -> Point:
    sent = Histogram.of(measurement.tally.durations)
    due = Histogram.of(measurement.tally.responses)
    ms = sent.mean_us / 1000
    findings.see(f"generator: {sent.count} requests, mean {ms:.1f} ms", ms)
    late_ms = (due.mean_us - sent.mean_us) / 1000
    if due.count and late_ms >= _SHORTEST_LATE_MS:
        text = f"generator: requests were sent {late_ms:.1f} ms late, which is in no share"
        findings.see(text, late_ms)
    return Point(At.GENERATOR, sent.count, ms)


async def _scrapes(findings: Findings) -> float | None:
    """How many samples the typical proxy has in the window; None when no proxy is known."""
    of_envoys = [name.metric for name in envoys.names_of(findings.names)]
    of_proxies = [name for name in (edges.REQUESTS, *of_envoys) if name in findings.names]
    if not of_proxies:
        return None
    counted = f"count_over_time({of_proxies[0]}[{findings.window.text}])"
    query = f"quantile(0.5, max by (job, instance) ({counted}))"
    found = await findings.ask(query, what="scrapes in the window")
    # Without any sample in the window the answer is empty.
    return found[0].value if found else 0.0


async def _path(findings: Findings, measurement: Measurement) -> edges.Path | None:
    if edges.REQUESTS not in findings.names:
        findings.missing.append(_without_requests(findings))
        return None
    query = edges.requests_query(findings.window)
    found = edges.edges_of(await findings.ask(query, what=edges.REQUESTS))
    path = edges.path_of(found, measurement)
    if path is None:
        service = measurement.service or "any service"
        findings.missing.append(f"{edges.REQUESTS}: requests to {service} in the window")
        return None
    pressures.see_flags(findings, path, query=query)
    return path


def _without_requests(findings: Findings) -> str:
    if edges.CONNECTIONS in findings.names:
        return (
            f"{edges.REQUESTS}: only connections are reported, as ztunnels do; a waypoint would "
            "report requests and how long they took"
        )
    return f"{edges.REQUESTS}: requests and errors by edge, as Istio's proxies count them"


async def _way(findings: Findings, measurement: Measurement, path: edges.Path | None) -> doors.Way:
    points = await _istio_points(findings, path) if path else []
    if path is not None and points:
        points += await doors.behind(findings, points[-1].at, path=path)
        await pressures.see_breakers(findings, [path.service], connections=measurement.connections)
        return doors.Way(points, path.guess)
    return await doors.way(findings, measurement)


async def _istio_points(findings: Findings, path: edges.Path) -> list[Point]:
    points = []
    if findings.has(f"{edges.DURATIONS}_count", tells="how long requests took at each proxy"):
        query = edges.durations_query(path.services, findings.window)
        found = await findings.ask(query, what=edges.DURATIONS)
        edges.add_durations({**path.into, **path.beyond}, found)
        points = edges.points_of(path)
        for point in points:
            text = f"{point.at}: {point.requests:.0f} requests to {path.service}"
            findings.see(f"{text}, mean {point.mean_ms:.1f} ms", point.mean_ms, query=query)
        _see_calls(findings, path, query=query)
    findings.edges += edges.told_edges(path)
    return points


def _see_calls(findings: Findings, path: edges.Path, *, query: str) -> None:
    requests = sum(traffic.requests[traffic.reporter] for traffic in path.into.values())
    for service, (calls, ms) in sorted(edges.calls_of(path).items()):
        text = (
            f"application: {calls / requests:.2f} calls to {service} for each request, "
            f"{ms / requests:.1f} ms together; less where they overlap"
        )
        findings.see(text, ms / requests, query=query)
