"""Charts: valid pictures of what was measured, the same each time, for every kind of run."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from services.perf.measurements.tallies import Tally
from services.perf.results.charts import VARIABLES, describe, png, svg
from services.perf.results.series import failures, format_code, latencies, rates
from tests.unit.perf.sample_runs import HOSTILE, UNUSUAL, measurement, searched, tally

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"

unusual = pytest.mark.parametrize("name", UNUSUAL)


def texts_of(picture: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def counted(*requests: tuple[float, int, str]) -> Tally:
    """Requests by when they were sent, how long they took, and their code."""
    total = Tally()
    for at_s, duration_us, code in requests:
        total.request(at_s=at_s, duration_us=duration_us, late_us=0, code=code, is_ok=code == "200")
    return total


def is_png(content: bytes) -> bool:
    """Whether it decodes to a picture of a sane size that is not empty."""
    pixels = imread(io.BytesIO(content))
    height, width = pixels.shape[:2]
    return 600 < width < 2000 and 600 < height < 2000 and bool(pixels.min() < pixels.max())


# --- pictures ------------------------------------------------------------------------------------


@unusual
def test_any_measurement_becomes_a_png(name: str) -> None:
    assert is_png(png(UNUSUAL[name]))


@unusual
def test_any_measurement_becomes_an_svg_that_refers_to_nothing_outside(name: str) -> None:
    picture = svg(UNUSUAL[name])
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox")
    for node in root.iter():
        assert node.tag.removeprefix(SVG) in {
            "svg", "defs", "style", "g", "path", "use", "clipPath", "rect", "text",
        }  # fmt: skip
        assert not [name for name in node.attrib if name.startswith("on")]
        assert (node.get(HREF) or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", picture)


def test_the_panels_show_what_they_promise() -> None:
    texts = texts_of(svg(measurement(tally(code="503"))))
    for shown in ("Latency by percentile", "Latency over time", "Requests per second"):
        assert shown in texts
    assert {"duration", "response time", "p50", "p90", "p99", "all", "503", "99 %"} <= set(texts)


def test_an_empty_run_says_so_in_each_panel() -> None:
    assert texts_of(svg(measurement(Tally()))).count("no request") == 3


def test_the_same_run_gives_the_same_bytes() -> None:
    measured = measurement(tally(seed=3))
    assert png(measured) == png(measured)
    assert svg(measured) == svg(measured)


def test_another_run_gives_another_picture() -> None:
    assert png(measurement(tally(seed=3))) != png(measurement(tally(seed=4)))


def test_no_time_or_program_is_written_into_the_files() -> None:
    assert "<metadata" not in svg(measurement())
    for chunk in (b"tEXt", b"tIME", b"iTXt"):
        assert chunk not in png(measurement())


def test_a_code_cannot_become_markup_or_mathematics() -> None:
    texts = texts_of(svg(UNUSUAL["hostile"]))
    assert format_code(HOSTILE) in texts
    assert len(format_code(HOSTILE)) == 24
    assert format_code("$x^2$") in texts_of(svg(measurement(tally(code="$x^2$"))))
    assert format_code("☃") == "?"
    assert format_code("-1") == "no answer"


def test_a_picture_of_a_day_stays_small() -> None:
    long = Tally(interval_s=144.0)
    for index in range(600):
        for duration_us in range(1000, 400_000, 40_000):
            long.request(
                at_s=index * 144.0,
                duration_us=duration_us + index * 7,
                late_us=0,
                code="200",
                is_ok=True,
            )
    measured = measurement(long, duration_s=86_400.0, requested_duration_s=86_400.0)
    assert len(svg(measured)) < 400_000
    assert is_png(png(measured))


# --- colours -------------------------------------------------------------------------------------


def test_every_colour_of_the_svg_is_a_variable_of_the_page() -> None:
    picture = svg(measurement())
    for variable, colour in VARIABLES.items():
        picture = picture.replace(f"var({variable}, {colour})", "")
    assert not re.search(r"#[0-9a-fA-F]{6}\b", picture)


def test_lines_differ_in_their_dashes_too() -> None:
    drawn = re.findall(r'd="M[^"]*" clip-path="[^"]*" style="([^"]*)"', svg(measurement()))
    lines = [style for style in drawn if "stroke: var(--chart-g" not in style]
    assert len(lines) == 7
    for panel in (lines[:2], lines[2:5], lines[5:]):
        dashes = [re.findall(r"stroke-dasharray: [^;]*", style) for style in panel]
        assert len({str(dash) for dash in dashes}) == len(panel)


# --- descriptions --------------------------------------------------------------------------------


def test_a_picture_is_described_in_words() -> None:
    told = describe(measurement(counted(*[(0.0, 2000, "200")] * 99, (0.0, 9000, "503"))))
    assert "within 2 ms" in told
    assert "100 in all, 1 of them failed" in told
    assert describe(measurement(Tally())) == "Three empty charts: there was no request."
    root = ElementTree.fromstring(svg(measurement()))
    assert (root.get("role"), root.get("aria-label")) == ("img", describe(measurement()))


# --- series --------------------------------------------------------------------------------------


def test_a_rate_is_that_of_each_interval_and_zero_in_a_gap() -> None:
    measured = measurement(counted((0.1, 1, "200"), (0.9, 1, "200"), (2.0, 1, "200")), duration_s=3)
    assert rates(measured) == [(0.5, 2.0), (1.5, 0.0), (2.5, 1.0)]


def test_the_last_interval_counts_with_its_length() -> None:
    whole = counted(*[(number / 10, 1, "200") for number in range(15)])
    assert rates(measurement(whole, duration_s=1.5)) == [(0.5, 10.0), (1.25, 10.0)]


def test_stragglers_in_a_sliver_of_an_interval_are_left_out() -> None:
    requests = counted((0.1, 1, "200"), (1.001, 1, "200"))
    assert rates(measurement(requests, duration_s=1.01)) == [(0.5, 1.0)]
    # But a run that lasted no longer than that shows what it has.
    assert rates(measurement(counted((0.0, 1, "200")), duration_s=0.01)) == [(0.1, 5.0)]


def test_latencies_have_a_gap_where_there_was_no_request() -> None:
    lines = latencies(measurement(counted((0.1, 4000, "200"), (2.1, 8000, "200")), duration_s=3))
    assert list(lines) == ["p50", "p90", "p99"]
    values = [value for _, value in lines["p50"]]
    assert values[0] == pytest.approx(4, rel=1e-3)
    assert math.isnan(values[1])
    assert values[2] == pytest.approx(8, rel=1e-3)


def test_failures_are_told_by_code_and_rare_codes_together() -> None:
    codes = ["503"] * 5 + ["504"] * 4 + ["-1"] * 3 + ["500"] * 2 + ["502"]
    measured = measurement(counted(*[(0.5, 1, code) for code in [*codes, "200"]]), duration_s=1)
    assert failures(measured) == {
        "503": [(0.5, 5.0)],
        "504": [(0.5, 4.0)],
        "-1": [(0.5, 3.0)],
        "other codes": [(0.5, 3.0)],
    }


def test_no_failure_means_no_line() -> None:
    assert failures(measurement(counted((0, 1, "200")))) == {}


def test_failures_with_a_fine_code_are_not_lost() -> None:
    odd = Tally()
    odd.request(at_s=0, duration_us=1, late_us=0, code="200", is_ok=False)
    assert failures(measurement(odd, duration_s=1)) == {"other codes": [(0.5, 1.0)]}


def test_the_steps_of_a_search_are_drawn_one_after_the_other() -> None:
    steps = [counted((0.1, 1, "200")), counted((0.1, 1, "200"), (0.2, 1, "200"))]
    assert rates(searched(steps)) == [(0.5, 1.0), (1.5, 2.0)]


# --- weight --------------------------------------------------------------------------------------


def test_a_worker_never_loads_the_plotting_library() -> None:
    code = (
        "import sys, services.perf.__main__;"
        "sys.exit('matplotlib' in sys.modules or 'hdrh' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_charts_never_load_pyplot() -> None:
    code = "import sys, services.perf.results.pages; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
