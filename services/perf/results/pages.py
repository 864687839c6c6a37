"""Writes a run as one HTML page that needs nothing else: no network, script, font or picture file.

Everything that people wrote (names, labels, reasons) is escaped, and the page forbids itself to
load anything, so that a hostile name is no more than an odd text. Light or dark is the browser's
choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timezone

from markupsafe import Markup

from services.perf.comparison.comparing import Comparison
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import TallyMessage
from services.perf.results.charts import VARIABLES, svg
from services.perf.results.series import format_code
from services.perf.results.summaries import format_ms, format_number, summary
from services.perf.results.templates import template
from services.perf.telemetry.verdicts import Verdict

_PERCENTILES = (50, 75, 90, 95, 99, 99.9, 99.99)
_FIGURES = ("requests", "failed", "p50 ms", "p90 ms", "p99 ms")


@dataclass(frozen=True, slots=True)
class Section:
    """A table, or a list of lines."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    """The first cell of a row is its header."""
    caption: str = ""
    is_text: bool = False
    lines: Sequence[str] = ()


def html(measurement: Measurement, *, comparison: Comparison | None = None) -> str:
    """The page; `comparison` is with an earlier run. Sections without content are left out."""
    figures, *remarks = summary(measurement).splitlines()
    bad = []
    if not measurement.is_complete:
        bad.append(f"Incomplete: {_counted(len(measurement.missing), 'shard')} missing")
    failing = [stage for stage in measurement.stages if stage.holds is False]
    if failing and measurement.saturation_rate is None:
        of = f"{len(failing)} of {_counted(len(measurement.stages), 'stage')}"
        bad.append(f"The objective did not hold in {of}")
    elif measurement.stages and all(stage.holds for stage in measurement.stages):
        remarks.append("The objective held")
    return template("run.html").render(
        title=measurement.name or measurement.run,
        figures=figures,
        bad=bad,
        remarks=remarks,
        # matplotlib has escaped every text in it.
        picture=Markup(svg(measurement)),
        colours=VARIABLES,
        sections=[one for one in _sections(measurement, comparison) if one.rows or one.lines],
    )


def _sections(measurement: Measurement, comparison: Comparison | None) -> Iterator[Section]:
    tally = measurement.tally
    yield Section("Latency", ("figure", "duration", "response time"), _times(tally), "Milliseconds")
    codes = Counter(tally.codes)
    yield Section(
        "Answers",
        ("code", "requests", "share"),
        [
            (format_code(code), str(count), f"{count / max(1, codes.total()):.2%}")
            for code, count in codes.most_common()
        ],
        f"{tally.failed} count as failed",
    )
    yield _stages(measurement)
    yield Section(
        "Targets",
        ("URL", "weight", *_FIGURES),
        [
            (target.url, format_number(target.weight), *_figures(target.tally))
            for target in measurement.targets
        ],
    )
    yield Section(
        "Missing",
        ("shard", "worker", "last heard of at", "reason"),
        [
            (str(hole.shard), hole.worker, f"{hole.since_s:g} s", hole.reason)
            for hole in measurement.missing
        ],
        "Not counted in anything above",
        is_text=True,
    )
    yield Section("Warnings", lines=measurement.warnings)
    if comparison:
        lines = [*comparison.text().splitlines(), comparison.method]
        title = f"Compared with {', '.join(comparison.before)}"
        yield Section(title, lines=[line for line in lines if line])
    if measurement.correlation:
        verdict = Verdict.model_validate(measurement.correlation)
        yield Section("Telemetry", lines=verdict.text().splitlines())
    yield Section("The test", ("fact", "value"), _facts(measurement), is_text=True)


def _times(tally: TallyMessage) -> list[tuple[str, ...]]:
    kinds = [Histogram.of(message) for message in (tally.durations, tally.responses)]
    if not kinds[0].count:
        return []
    times_us: list[tuple[str, Sequence[float]]] = [
        ("least", [kind.least_us for kind in kinds]),
        *((f"p{p:g}", [kind.percentile_us(p) for kind in kinds]) for p in _PERCENTILES),
        ("most", [kind.most_us for kind in kinds]),
        ("mean", [kind.mean_us for kind in kinds]),
        ("deviation", [kind.deviation_us for kind in kinds]),
    ]
    return [(name, *(format_ms(us / 1000) for us in both)) for name, both in times_us]


def _stages(measurement: Measurement) -> Section:
    rows = []
    for number, stage in enumerate(measurement.stages, start=1):
        asked = format_number(stage.rate) if stage.rate > 0 else "any"
        holds = {True: "held", False: stage.reason or "did not hold", None: ""}[stage.holds]
        cells = (asked, format_number(stage.actual_rate), format_number(stage.duration_s))
        rows.append((str(number), *cells, *_figures(stage.tally), holds))
    is_search = measurement.saturation_rate is not None
    columns = ("asked/s", "reached/s", "seconds", *_FIGURES, "objective")
    title, number_of = ("Steps of the search", "step") if is_search else ("Stages", "stage")
    return Section(title, (number_of, *columns), rows)


def _figures(tally: TallyMessage) -> tuple[str, ...]:
    durations = Histogram.of(tally.durations)
    times = (format_ms(durations.percentile_us(p) / 1000) for p in (50, 90, 99))
    return str(durations.count), str(tally.failed), *times


def _facts(measurement: Measurement) -> list[tuple[str, str]]:
    started = measurement.started.astimezone(timezone.utc)
    facts = {
        "run": measurement.run,
        "started": f"{started:%Y-%m-%d %H:%M:%S} UTC",
        "lasted": f"{format_number(measurement.duration_s)} s",
        "generator": f"{measurement.generator}, {measurement.protocol}",
        "connections": str(measurement.connections),
        "workers": str(measurement.workers),
        "shards run again": ", ".join(str(shard) for shard in measurement.rerun),
        "service": measurement.service,
        "mesh": measurement.mesh,
        "cluster": measurement.cluster,
        "configuration": measurement.fingerprint,
        **{f"label {name}": value for name, value in measurement.labels.items()},
    }
    return [(name, value) for name, value in facts.items() if value]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
