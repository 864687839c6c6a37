"""Draws a run: latency by percentile, latency over time, requests over time.

matplotlib takes half a second and 40 MB to load, more than all else in a worker. So nothing that a
worker runs imports this module: `drawing` does, which is a process of its own. (Its `pyplot` is
never used: that keeps global state and looks for a screen.)

Lines differ in dash as well as in colour. The colours are Okabe and Ito's, which people with any
colour vision tell apart, but for the last one: their orange is too pale on white. The SVG has CSS
variables in place of colours, so that a page can have its dark form. Neither form has a time or a
random id in it: the same run gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from services.perf.measurements.histograms import Histogram, slot_range
from services.perf.measurements.measurements import Measurement
from services.perf.results.series import Points, failures, format_code, latencies, rates

# Stand for what a page's style decides; as colours they are those of a light page.
INK, GRID = "#1f2329", "#d5d9df"

_STYLE: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    **{f"{axis}tick.color": GRID for axis in "xy"},
    **{f"{axis}tick.labelcolor": INK for axis in "xy"},
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "meshbus",
}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
VARIABLES = {
    "--chart-ink": INK,
    "--chart-grid": GRID,
    **{f"--chart-{number}": colour for number, colour in enumerate(_COLOURS, start=1)},
}
"""CSS variables of the SVG, with the colours that they stand for on a light page."""

_SIZE_INCHES = (8.0, 9.0)
_DPI = 110
_LOG_FROM_RATIO = 30.0
_MOST_POINTS = 2000


def png(measurement: Measurement) -> bytes:
    """The three panels on white."""
    content = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = _figure(measurement)
        figure.set_facecolor("white")
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def svg(measurement: Measurement) -> str:
    """The three panels as an `<svg>` element without a background, to stand in a page."""
    content = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = _figure(measurement)
        figure.patch.set_visible(False)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(content, format="svg", metadata=nothing)
    return _for_page(content.getvalue(), describe(measurement))


def describe(measurement: Measurement) -> str:
    """The picture in words, for those who cannot see it."""
    durations = Histogram.of(measurement.tally.durations)
    if not durations.count:
        return "Three empty charts: there was no request."
    p50, p99 = (durations.percentile_us(p) / 1000 for p in (50, 99))
    failed = measurement.tally.failed
    return (
        f"Three charts: latency by percentile, half of the requests within {p50:g} ms and 99 % "
        f"within {p99:g} ms; latency over {measurement.duration_s:g} s; requests per second, "
        f"{durations.count} in all, {failed} of them failed."
    )


def _for_page(text: str, description: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    for variable, colour in VARIABLES.items():
        text = text.replace(colour, f"var({variable}, {colour})")
    # The description is made of numbers only. Width and height are left to the page.
    label = f'<svg role="img" aria-label="{description}" '
    text = re.sub(r'^<svg ([^>]*?)(?:width|height)="[^"]*" ', r"<svg \1", text, count=1)
    text = re.sub(r'^<svg ([^>]*?)(?:width|height)="[^"]*" ', r"<svg \1", text, count=1)
    return text.replace("<svg ", label, 1)


# --- panels --------------------------------------------------------------------------------------


def _figure(measurement: Measurement) -> Figure:
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    by_percentile, over_time, requests = figure.subplots(3, 1)
    _draw_percentiles(by_percentile, measurement)
    _draw_latencies(over_time, latencies(measurement))
    _draw_requests(requests, measurement)
    for axes in (by_percentile, over_time, requests):
        _finish(axes)
    return figure


def _draw_percentiles(axes: Axes, measurement: Measurement) -> None:
    axes.set_title("Latency by percentile")
    axes.set_ylabel("ms")
    tally = measurement.tally
    highest = 0.0
    seen: list[float] = []
    for number, (label, message) in enumerate(
        (("duration", tally.durations), ("response time", tally.responses))
    ):
        histogram = Histogram.of(message)
        if not histogram.count:
            continue
        nines, values = _curve(histogram)
        axes.plot(nines, values, label=label, drawstyle="steps-pre", **_line(number))
        highest = max(highest, nines[-1])
        seen += values
    ticks = [(0.0, "0"), (math.log10(2), "50 %"), (1.0, "90 %")]
    ticks += [(float(n), f"{100 - 10 ** (2 - n):.{max(0, n - 2)}f} %") for n in range(2, 9)]
    shown = [tick for tick in ticks if tick[0] <= max(1.0, highest)]
    axes.set_xticks([at for at, _ in shown], [text for _, text in shown])
    _scale(axes, seen)


def _curve(histogram: Histogram) -> tuple[list[float], list[float]]:
    """Nines (1 is 90 %, 2 is 99 %) and milliseconds; it ends where one request is left."""
    nines, values, below = [0.0], [histogram.least_us / 1000], 0
    for slot, count in histogram.ascending():
        below += count
        low, high = slot_range(slot)
        middle_us = max(histogram.least_us, min((low + high + 1) // 2, histogram.most_us))
        share = (histogram.count - below) / histogram.count
        nines.append(-math.log10(share) if share else math.log10(histogram.count))
        values.append(middle_us / 1000)
    values[-1] = histogram.most_us / 1000
    every = max(1, len(nines) // _MOST_POINTS)
    kept = sorted({*range(0, len(nines), every), *range(max(0, len(nines) - 200), len(nines))})
    return [nines[index] for index in kept], [values[index] for index in kept]


def _draw_latencies(axes: Axes, lines: dict[str, Points]) -> None:
    axes.set_title("Latency over time")
    axes.set_ylabel("ms")
    for number, (label, points) in enumerate(lines.items()):
        _plot(axes, points, label, number)
    _scale(axes, [value for points in lines.values() for _, value in points if value == value])


def _draw_requests(axes: Axes, measurement: Measurement) -> None:
    axes.set_title("Requests per second")
    axes.set_ylabel("requests/s")
    axes.set_xlabel("seconds after the start")
    _plot(axes, rates(measurement), "all", 0)
    for number, (code, points) in enumerate(failures(measurement).items(), start=1):
        _plot(axes, points, format_code(code), number)
    axes.set_ylim(bottom=0)


def _plot(axes: Axes, points: Points, label: str, number: int) -> None:
    if points:
        at, values = zip(*points, strict=True)
        marker = "o" if len(points) < 4 else ""
        axes.plot(at, values, label=label, marker=marker, markersize=4, **_line(number))


def _line(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "solid_capstyle": "round",
    }


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic where the largest would press all others to the ground."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > _LOG_FROM_RATIO * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)


def _finish(axes: Axes) -> None:
    if axes.get_lines():
        # Above the lines, not on top of them.
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=5, borderaxespad=0.0)
    else:
        axes.text(0.5, 0.5, "no request", transform=axes.transAxes, ha="center")
