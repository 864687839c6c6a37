"""The page of a run: whole, safe, readable by everyone, and in need of nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from services.perf.comparison.comparing import Comparison, compare
from services.perf.measurements.measurements import MissingShard, StageResult
from services.perf.measurements.tallies import Tally
from services.perf.results.charts import VARIABLES
from services.perf.results.pages import html
from services.perf.results.templates import template
from services.perf.runs.store import RunRecord
from services.perf.telemetry.verdicts import Confidence, Place, Share, Verdict
from tests.unit.perf.sample_runs import HOSTILE, STARTED, UNUSUAL, measurement, tally

VOID = {"meta", "br", "img", "link", "hr", "input"}
LOADING = {"src", "href", "action", "data", "srcset", "poster", "background", "formaction"}

unusual = pytest.mark.parametrize("name", UNUSUAL)


@dataclass
class Page(HTMLParser):
    """A page taken apart; tags that do not nest are an error."""

    source: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: dict[str, list[str]] = field(default_factory=dict)
    """Text by the tag around it."""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.words.setdefault(self._open[-1], []).append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# --- safe ----------------------------------------------------------------------------------------


@unusual
def test_any_measurement_becomes_a_page_that_loads_nothing(name: str) -> None:
    page = Page(html(UNUSUAL[name]))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")]
        for key in LOADING | {"xlink:href"}:
            assert (attributes.get(key) or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", page.source)
    policies = [meta for meta in page.attributes("meta") if meta.get("http-equiv")]
    assert policies[0]["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_hostile_texts_are_shown_as_they_are() -> None:
    page = Page(html(UNUSUAL["hostile"]))
    assert "<script" not in page.source
    assert page.words["title"] == [f"{HOSTILE}: load test"]
    assert page.words["h1"] == [HOSTILE]
    shown = page.words["td"] + page.words["th"] + page.words["li"]
    # URL, reason of the stage, worker and reason of the hole, warning, run, service, mesh, cluster,
    # fingerprint, and the label's value; its name stands behind a word.
    assert shown.count(HOSTILE) == 11
    assert f"label {HOSTILE}" in shown


# --- whole ---------------------------------------------------------------------------------------


def test_a_page_has_the_figures_of_the_run() -> None:
    counted = tally()
    page = Page(html(measurement(counted, warnings=["the rate was not reached"], rerun=[3])))
    shown = page.words["td"] + page.words["th"]
    for told in ("http://checkout.shop:8080/cart", "checkout.shop", "503", "25", "5.00%", "shop"):
        assert told in shown
    assert "the rate was not reached" in page.words["li"]
    assert "shards run again" in shown
    row = re.search(r'<th scope="row">p99</th><td>([\d.]+)</td><td>([\d.]+)</td>', page.source)
    assert row
    assert float(row[1]) == pytest.approx(counted.durations.percentile_us(99) / 1000, rel=0.01)
    assert float(row[2]) == pytest.approx(counted.responses.percentile_us(99) / 1000, rel=0.01)
    assert len(page.attributes("svg")) == 1


def test_what_is_wrong_stands_at_the_top() -> None:
    counted = tally()
    failing = StageResult(
        rate=1, duration_s=1, actual_rate=1, tally=counted.message(), holds=False, reason="p99"
    )
    hole = MissingShard(shard=2, worker="w-2", since_s=3.5, reason="not heard of again")
    page = Page(html(measurement(counted, missing=[hole], stages=[failing, failing])))
    bad = re.findall(r"<p class=bad>([^<]*)</p>", page.source)
    assert bad == ["Incomplete: 1 shard missing", "The objective did not hold in 2 of 2 stages"]
    assert "not heard of again" in page.words["td"]


def test_a_good_run_has_nothing_bad_at_the_top() -> None:
    counted = tally()
    held = StageResult(rate=1, duration_s=1, actual_rate=1, tally=counted.message(), holds=True)
    source = html(measurement(counted, stages=[held]))
    assert "<p class=bad>" not in source
    assert "The objective held" in source
    assert "objective held" not in html(measurement(counted))


def test_a_search_shows_its_steps_and_blames_none() -> None:
    counted = tally()
    steps = [
        StageResult(rate=rate, duration_s=1, actual_rate=1, tally=counted.message(), holds=holds)
        for rate, holds in ((50, True), (100, False))
    ]
    page = Page(html(measurement(counted, stages=steps, saturation_rate=50.0)))
    assert "Steps of the search" in page.words["h2"]
    assert "<p class=bad>" not in page.source
    assert "50/s is the highest rate that held the objective" in page.words["p"]


def test_a_page_tells_what_the_telemetry_says() -> None:
    verdict = Verdict(
        start=STARTED,
        end=STARTED,
        place=Place.APPLICATION,
        confidence=Confidence.HIGH,
        reason="<b>both ends</b>",
        shares=[Share(place=Place.APPLICATION, ms=80.0, covers="the application")],
        missing=["envoy_<cluster>"],
    )
    page = Page(html(measurement(correlation=verdict.model_dump(mode="json"))))
    assert "Telemetry" in page.words["h2"]
    assert "Latency: application (confidence high: <b>both ends</b>)" in page.words["li"]
    assert "Not found: envoy_<cluster>" in page.words["li"]
    assert "Telemetry" not in Page(html(measurement())).words["h2"]


def test_a_page_tells_a_comparison() -> None:
    before, after = measurement(tally(seed=1), run="old <1>"), measurement(tally(seed=2))
    compared = compare([before], [after])
    # As the service API answers it, with the words beside the numbers.
    answer = {**compared.model_dump(mode="json"), "told": compared.text()}
    page = Page(html(after, comparison=Comparison.model_validate(answer)))
    assert "Compared with old <1>" in page.words["h2"]
    for line in compared.text().splitlines():
        assert line in page.words["li"]


def test_the_list_of_runs_links_each_and_escapes_their_names() -> None:
    named = RunRecord(run="run-1", operation="run-1", kind="performance-test", cluster="none")
    hostile = named.model_copy(update={"run": "run-2", "name": HOSTILE, "asked": STARTED})
    page = Page(template("runs.html").render(runs=[named, hostile]))
    assert [link["href"] for link in page.attributes("a")] == ["/runs/run-1", "/runs/run-2"]
    assert page.words["a"] == ["run-1", HOSTILE]
    assert page.words["li"][-1].strip() == "queued, 2026-09-01 12:00 UTC"
    assert Page(template("runs.html").render(runs=[])).words["li"] == ["none yet"]


# --- readable ------------------------------------------------------------------------------------


@unusual
def test_a_page_is_readable_by_machines_that_read_aloud(name: str) -> None:
    page = Page(html(UNUSUAL[name]))
    assert page.source.startswith("<!doctype html>")
    assert page.attributes("html") == [{"lang": "en"}]
    assert len(page.words["title"]) == len(page.words["h1"]) == 1
    assert all(header.get("scope") in ("row", "col") for header in page.attributes("th"))
    assert all(text.strip() for text in page.words["th"])
    assert len(page.words["th"]) == len(page.attributes("th"))
    (picture,) = page.attributes("svg")
    assert picture["role"] == "img"
    assert picture["aria-label"]


def test_sections_without_content_are_left_out() -> None:
    page = Page(html(measurement(Tally(), stages=[], targets=[])))
    assert page.words["h2"] == ["The test"]


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_stand_out_from_the_page_in_light_and_dark(*, dark: bool) -> None:
    style = "".join(Page(html(measurement())).words["style"][:1])
    light_part, dark_part = style.split("@media (prefers-color-scheme: dark)")
    dark_part = dark_part.split("body {")[0]
    colours = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", dark_part if dark else light_part))
    assert set(VARIABLES) < set(colours)
    for name, colour in colours.items():
        if name not in ("--page", "--line", "--chart-grid"):
            is_text = not re.fullmatch(r"--chart-\d", name)
            assert contrast(colour, colours["--page"]) >= (4.5 if is_text else 3), name
