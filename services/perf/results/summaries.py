"""Writes a run in a few lines of text, for events and pages."""

from __future__ import annotations

from collections import Counter

from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement

_MOST_TOLD = 5


def summary(measurement: Measurement) -> str:
    """A few plain lines; the first one has the figures."""
    lines = [_figures(measurement)]
    codes = measurement.tally.codes
    if codes:
        told = [
            f"{count} without an answer" if code == "-1" else f"{count} with {code}"
            for code, count in Counter(codes).most_common(_MOST_TOLD)
        ]
        told += [f"{len(codes) - _MOST_TOLD} more codes"] if len(codes) > _MOST_TOLD else []
        lines.append(f"Answers: {', '.join(told)}")
    if measurement.saturation_rate is not None:
        rate = measurement.saturation_rate
        found = f"{format_number(rate)}/s is the highest rate that held" if rate else "No rate held"
        lines.append(f"{found} the objective")
    if measurement.missing:
        told = [f"{hole.shard} (worker {hole.worker})" for hole in measurement.missing[:_MOST_TOLD]]
        more = len(measurement.missing) - _MOST_TOLD
        told += [f"{more} more"] if more > 0 else []
        lines.append(f"Not counted, because their workers were lost: shards {', '.join(told)}")
    return "\n".join(lines)


def headline(measurement: Measurement) -> str:
    """The figures that people ask for first, short enough for a summary; of response times."""
    responses = Histogram.of(measurement.tally.responses)
    if not responses.count:
        return "no request"
    p50, p99 = (format_ms(responses.percentile_us(p) / 1000) for p in (50, 99))
    return f"p50 {p50}, p99 {p99} ms, {measurement.tally.failed / responses.count:.2%} failed"


def _figures(measurement: Measurement) -> str:
    durations = Histogram.of(measurement.tally.durations)
    if not durations.count:
        return f"No request in {format_number(measurement.duration_s)} s"
    rate = measurement.requested_rate
    asked = f"{format_number(rate)}/s asked" if rate > 0 else "as fast as possible"
    failed = measurement.tally.failed
    p50, p90, p99 = (format_ms(durations.percentile_us(p) / 1000) for p in (50, 90, 99))
    return (
        f"{durations.count} requests at {measurement.actual_rate:.1f}/s ({asked}), "
        f"p50 {p50}, p90 {p90}, p99 {p99} ms, {failed} failed ({failed / durations.count:.2%})"
    )


def format_ms(ms: float) -> str:
    """Three digits, and never an exponent."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def format_number(value: float) -> str:
    """Two decimals at most, and never an exponent."""
    return f"{round(value, 2):.12g}"
