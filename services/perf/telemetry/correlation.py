"""Asks the mesh's telemetry about a run's window and makes a verdict of the answers.

All queries are evaluated at the window's end, never now, so that a verdict can be made again later.
There are about a dozen, for all edges and pods at once, in three rounds: which metrics there are,
what was requested, and then the rest about the edges that belong to the run.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from services.chassis.prometheus import Metrics
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.telemetry import envoys, envoystats, istio, resources
from services.perf.telemetry.findings import Findings
from services.perf.telemetry.promql import Window
from services.perf.telemetry.shares import At, Point, split
from services.perf.telemetry.verdicts import Verdict

_INVENTORY = "|".join(
    (
        istio.REQUESTS,
        f"{istio.DURATIONS}_count",
        istio.CONNECTIONS,
        resources.CPU,
        resources.LIMITS,
        resources.THROTTLED,
        resources.PROCESS_CPU,
        resources.ENVOY_MEMORY,
        *(f"{metric}_count" for metric in resources.ISTIOD_TIMES),
        envoystats.NAMES,
    )
)
_SHORTEST_LATE_MS = 1.0


async def correlate(
    metrics: Metrics, *, measurement: Measurement, window: tuple[datetime, datetime]
) -> Verdict:
    """The verdict on a run from its start to its end. Telemetry that fails is listed as
    missing, not raised.

    The window may end a scrape after the run, so that its last requests are counted, too.
    """
    findings = Findings(metrics, Window(*window))
    points, scrapes = [_generator(findings, measurement)], None
    inventory = f'count by (__name__) ({{__name__=~"{_INVENTORY}"}})'
    names = await findings.ask(inventory, what="the list of metrics")
    findings.names = {sample.labels.get("__name__", "") for sample in names}
    if findings.names:
        scrapes, path = await asyncio.gather(
            _scrapes(findings), istio.path_of(findings, measurement)
        )
        behind, *_ = await asyncio.gather(
            _points(findings, measurement, path),
            resources.check_containers(findings, path.workloads if path else ()),
            resources.check_istiod(findings),
        )
        points += behind
    elif not findings.missing:
        findings.missing.append("any metric of a mesh: neither proxies nor istiod are scraped")
    result = split(points, scrapes=scrapes, guess=findings.guess)
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


def _generator(findings: Findings, measurement: Measurement) -> Point:
    sent = Histogram.of(measurement.tally.durations)
    due = Histogram.of(measurement.tally.responses)
    ms = sent.mean_us / 1000
    findings.add_evidence(f"generator: {sent.count} requests, mean {ms:.1f} ms", ms)
    late_ms = (due.mean_us - sent.mean_us) / 1000
    if due.count and late_ms >= _SHORTEST_LATE_MS:
        text = f"generator: requests were sent {late_ms:.1f} ms late, which is in no share"
        findings.add_evidence(text, late_ms)
    return Point(At.GENERATOR, sent.count, ms)


async def _scrapes(findings: Findings) -> float | None:
    """How many samples the typical proxy has in the window; None when no proxy is known."""
    reported = [name for name in sorted(findings.names) if envoystats.parsed(name)]
    of_proxies = [istio.REQUESTS] if istio.REQUESTS in findings.names else reported
    if not of_proxies:
        return None
    counted = f"count_over_time({of_proxies[0]}[{findings.window.text}])"
    query = f"quantile(0.5, max by (job, instance) ({counted}))"
    found = await findings.ask(query, what="scrapes in the window")
    # Without any sample in the window the answer is empty.
    return found[0].value if found else 0.0


async def _points(
    findings: Findings, measurement: Measurement, path: istio.Path | None
) -> list[Point]:
    """Reads the proxies' latencies from Istio's metrics, and without these from Envoy's own."""
    points = await istio.points_of(findings, path) if path else []
    if path is None or not points:
        return await envoys.points_of(findings, measurement)
    findings.guess = path.guess
    points += await envoys.points_behind(findings, points[-1].at, path)
    await envoys.check_circuit_breakers(
        findings, [path.service], connections=measurement.connections
    )
    return points
