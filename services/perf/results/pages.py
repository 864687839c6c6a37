"""A run as one HTML page that needs nothing else: no network, no script, no font, no picture file.

Everything that people wrote (names, labels, reasons) is escaped, and the page forbids itself to
load anything, so that a hostile name is no more than an odd text. Light or dark is the browser's
choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timezone
from html import escape
from typing import Any

from services.perf.comparison.comparing import Comparison
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import TallyMessage
from services.perf.results.charts import VARIABLES, svg
from services.perf.results.results import summary, told_ms, told_number
from services.perf.results.series import told_code
from services.perf.telemetry.verdicts import Verdict

_PERCENTILES = (50, 75, 90, 95, 99, 99.9, 99.99)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CAPTION = (
    "Durations are what the generator measured; response times begin when the rate wanted a "
    "request sent."
)
_DARK = {
    "--chart-ink": "#e4e7eb",
    "--chart-grid": "#3a414b",
    "--chart-1": "#56b4e9",
    "--chart-2": "#ff8a3d",
    "--chart-3": "#2fd0a0",
    "--chart-4": "#e3a2c8",
    "--chart-5": "#f0c040",
}
_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1f2329; --soft: #57606a;
  --line: #d5d9df; --bad: #b3261e; %LIGHT% }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --ink: #e4e7eb; --soft: #9aa4b0;
  --line: #3a414b; --bad: #ff8a80; %DARK% } }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p, li { overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
th, td { text-align: right; padding: .25rem .75rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
tbody th { font-weight: 400; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
figure svg { width: 100%; height: auto; }
"""


def html(measurement: Measurement, *, comparison: dict[str, Any] | None = None) -> str:
    """The page; `comparison` is a `Comparison` as it travels."""
    title = measurement.name or measurement.run
    sections = [
        _head(measurement, title),
        f"<figure>{svg(measurement)}<figcaption class=soft>{_CAPTION}</figcaption></figure>",
        _latencies(measurement.tally),
        _codes(measurement),
        _stages(measurement),
        _targets(measurement),
        _holes(measurement),
        _list("Warnings", measurement.warnings),
        _comparison(Comparison.model_validate(comparison)) if comparison else "",
        _telemetry(Verdict.model_validate(measurement.correlation))
        if measurement.correlation
        else "",
        _facts(measurement),
    ]
    light, dark = (
        " ".join(f"{name}: {colour};" for name, colour in colours.items())
        for colours in (VARIABLES, _DARK)
    )
    style = _STYLE.replace("%LIGHT%", light).replace("%DARK%", dark)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: load test</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(filter(None, sections))}\n</main>\n</body>\n</html>\n"
    )


# --- sections ------------------------------------------------------------------------------------


def _head(measurement: Measurement, title: str) -> str:
    figures, *rest = summary(measurement).splitlines()
    bad = []
    if not measurement.is_complete:
        bad.append(f"Incomplete: {_counted(len(measurement.missing), 'shard')} missing")
    failing = [stage for stage in measurement.stages if stage.holds is False]
    if failing and measurement.saturation_rate is None:
        of = f"{len(failing)} of {_counted(len(measurement.stages), 'stage')}"
        bad.append(f"The objective did not hold in {of}")
    elif measurement.stages and all(stage.holds for stage in measurement.stages):
        rest.append("The objective held")
    return (
        f"<h1>{escape(title)}</h1>\n<p>{escape(figures)}</p>"
        + "".join(f"\n<p class=bad>{escape(line)}</p>" for line in bad)
        + "".join(f"\n<p class=soft>{escape(line)}</p>" for line in rest)
    )


def _latencies(tally: TallyMessage) -> str:
    kinds = [Histogram.of(message) for message in (tally.durations, tally.responses)]
    if not kinds[0].count:
        return ""
    rows = [("least", *(told_ms(kind.least_us / 1000) for kind in kinds))]
    rows += [
        (f"p{percentile:g}", *(told_ms(kind.percentile_us(percentile) / 1000) for kind in kinds))
        for percentile in _PERCENTILES
    ]
    rows.append(("most", *(told_ms(kind.most_us / 1000) for kind in kinds)))
    rows.append(("mean", *(told_ms(kind.mean_us / 1000) for kind in kinds)))
    rows.append(("deviation", *(told_ms(kind.deviation_us / 1000) for kind in kinds)))
    return _section(
        "Latency", _table("Milliseconds", ("figure", "duration", "response time"), rows)
    )


def _codes(measurement: Measurement) -> str:
    codes = Counter(measurement.tally.codes)
    rows = [
        (told_code(code), str(count), f"{count / max(1, codes.total()):.2%}")
        for code, count in codes.most_common()
    ]
    if not rows:
        return ""
    failed = sum(measurement.tally.failures.counts)
    return _section(
        "Answers", _table(f"{failed} count as failed", ("code", "requests", "share"), rows)
    )


def _stages(measurement: Measurement) -> str:
    rows = []
    for number, stage in enumerate(measurement.stages, start=1):
        asked = told_number(stage.rate) if stage.rate > 0 else "any"
        holds = {True: "held", False: stage.reason or "did not hold", None: ""}[stage.holds]
        cells = (asked, told_number(stage.actual_rate), told_number(stage.duration_s))
        rows.append((str(number), *cells, *_figures(stage.tally), holds))
    is_search = measurement.saturation_rate is not None
    names = (
        "step" if is_search else "stage",
        "asked/s",
        "reached/s",
        "seconds",
        *_FIGURES,
        "objective",
    )
    return _section("Steps of the search" if is_search else "Stages", _table("", names, rows))


def _targets(measurement: Measurement) -> str:
    rows = [
        (target.url, told_number(target.weight), *_figures(target.tally))
        for target in measurement.targets
    ]
    return _section("Targets", _table("", ("URL", "weight", *_FIGURES), rows))


_FIGURES = ("requests", "failed", "p50 ms", "p90 ms", "p99 ms")


def _figures(tally: TallyMessage) -> tuple[str, ...]:
    durations = Histogram.of(tally.durations)
    times = (told_ms(durations.percentile_us(p) / 1000) for p in (50, 90, 99))
    return str(durations.count), str(sum(tally.failures.counts)), *times


def _holes(measurement: Measurement) -> str:
    rows = [
        (str(hole.shard), hole.worker, f"{hole.since_s:g} s", hole.reason)
        for hole in measurement.missing
    ]
    names = ("shard", "worker", "last heard of at", "reason")
    return _section("Missing", _table("Not counted in anything above", names, rows, is_text=True))


def _comparison(comparison: Comparison) -> str:
    lines = [*comparison.told().splitlines(), comparison.method]
    return _list(f"Compared with {', '.join(comparison.before)}", filter(None, lines))


def _telemetry(verdict: Verdict) -> str:
    return _list("Telemetry", verdict.told().splitlines())


def _facts(measurement: Measurement) -> str:
    started = measurement.started.astimezone(timezone.utc)
    facts = {
        "run": measurement.run,
        "started": f"{started:%Y-%m-%d %H:%M:%S} UTC",
        "lasted": f"{told_number(measurement.duration_s)} s",
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
    rows = [(name, value) for name, value in facts.items() if value]
    return _section("The test", _table("", ("fact", "value"), rows, is_text=True))


# --- HTML ----------------------------------------------------------------------------------------


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def _list(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return _section(title, f"<ul>{items}</ul>" if items else "")


def _table(
    caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, is_text: bool = False
) -> str:
    """The first cell of a row is its header."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for first, *cells in rows
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = " class=text" if is_text else ""
    return (
        f"<div class=wide><table{kind}>{told}<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
