"""Performance in the console: runs as they go on, results, comparisons, gates, baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from services.chassis.errors import BusUnavailable
from services.chassis.messages.events import Phase
from services.perf.runs.store import RunState
from tests.real.topology.measured import settled
from tests.real.topology.samples import event
from tests.real.topology.serving import Server
from tests.real.topology.test_console import accessible


@pytest.fixture
def measured(shop: Server) -> Server:
    """A service beside a perf with one of everything."""
    shop.asked.perf = settled()
    return shop


async def test_a_run_is_watched_to_what_it_measured(page: Page, measured: Server) -> None:
    perf = measured.asked.perf
    await page.goto(f"{measured.url}/performance")
    await expect(page.locator("#running + .scroll")).to_contain_text("12 of 60 s")
    await page.locator("#running + .scroll").get_by_role("link", name="checkout").click()
    await expect(page).to_have_url(f"{measured.url}/performance/r-now")
    tiles = page.locator(".tiles")
    for text in ("98 /s", "32 ms", "1,200", "3 (0.3 %)"):
        await expect(tiles).to_contain_text(text)
    await expect(page.locator(".chart canvas")).to_have_count(2)
    await page.evaluate("() => { document.querySelector('.chart canvas').dataset.same = 'yes'; }")
    perf.running(seconds=40)
    await expect(tiles).to_contain_text("4,000")
    await expect(page.locator("progress")).to_have_attribute("value", "40")
    # It is drawn on, not anew.
    await expect(page.locator("canvas[data-same]")).to_have_count(1)
    perf.done("r-now", seed=9)
    await expect(page.locator("h1")).to_have_text("checkout ✓ succeeded")
    for title in ("Latency curve", "Percentiles over time", "Rate", "Failures by code"):
        await expect(page.locator("figcaption", has_text=title)).to_have_count(1)
    await expect(page.locator(".chart canvas")).to_have_count(4)
    await expect(page.get_by_role("group", name="Answers")).to_contain_text("503255 %")
    await expect(page.get_by_role("group", name="Stages")).to_contain_text("did not hold")
    await expect(page.get_by_role("group", name="Targets")).to_contain_text("http://checkout.shop/")
    await expect(page.locator("#view")).to_contain_text("25 requests failed")


async def test_a_run_that_was_cancelled_keeps_its_curve(page: Page, measured: Server) -> None:
    await page.goto(f"{measured.url}/performance/r-now")
    await expect(page.locator(".chart canvas")).to_have_count(2)
    measured.asked.perf.cancelled("r-now")
    await expect(page.locator("h1")).to_have_text("checkout ▲ cancelled")
    went = page.get_by_role("region", name="How it went until then")
    await expect(went).to_contain_text("It ended after 12 s of 60 s")
    await expect(went.locator(".tiles")).to_contain_text("1,200")
    await expect(went.locator(".chart canvas")).to_have_count(2)
    await accessible(page)


async def test_values_of_a_chart_can_be_read(page: Page, measured: Server) -> None:
    await page.goto(f"{measured.url}/performance/r-1")
    chart = page.locator(".chart", has_text="Latency curve")
    await chart.locator("summary").press("Enter")
    rows = chart.locator("tbody tr")
    await expect(rows).to_have_count(13)
    await expect(rows.nth(7)).to_contain_text("p99")
    legend = chart.locator(".legend")
    last = await legend.text_content()
    await chart.locator(".u-over").hover(position={"x": 5, "y": 20})
    await expect(chart.locator("figcaption")).to_contain_text("least")
    assert await legend.text_content() != last


async def test_runs_are_compared_and_the_address_says_which(page: Page, measured: Server) -> None:
    await page.goto(f"{measured.url}/performance")
    await page.locator("#runs-search").fill("r-")
    table = page.get_by_role("group", name="Runs", exact=True)
    for run, side in (("r-0", "before"), ("r-1", "after"), ("r-2", "after")):
        row = table.locator("tr", has=page.locator(f'a[href="/performance/{run}"]'))
        await row.get_by_role("combobox").select_option(side)
    await expect(page.locator(".chosen")).to_contain_text("1 run before, 2 runs after")
    await page.locator(".chosen").get_by_role("link", name="Compare").click()
    await expect(page.locator("h1")).to_contain_text("inconclusive")
    await expect(page.locator("#view")).to_contain_text("Too few runs")
    await expect(page.locator(".chart canvas")).to_have_count(3)
    await expect(page.locator(".chart").first.locator(".legend li")).to_have_count(3)
    await page.reload()
    changes = page.get_by_role("group", name="Changes")
    for metric in ("p50", "p99", "failed", "rate"):
        await expect(changes).to_contain_text(metric)
    await page.goto(f"{measured.url}/performance?compare=yes&before=baseline:nightly&after=r-3")
    await expect(page.locator("dl.facts")).to_contain_text("r-0, r-1, r-2")
    await page.goto(f"{measured.url}/performance?compare=yes&before=r-0&after=gone")
    await expect(page.get_by_role("alert").first).to_contain_text("no result of a run gone")


async def test_a_baseline_is_chosen_as_before(page: Page, measured: Server) -> None:
    await page.goto(f"{measured.url}/performance")
    await page.get_by_role("button", name="as before: the baseline nightly").click()
    await page.get_by_label("Compare checkout as").first.select_option("after")
    await expect(page.locator(".chosen")).to_contain_text("baseline:nightly before, 1 run after")


async def test_a_gate_says_what_it_decided_and_on_what(page: Page, measured: Server) -> None:
    told: dict[str, Any] = {
        "kind": "performance-gate",
        "service": "perf",
        "summary": "the gate rolled back",
    }
    measured.tell(event("g-1", Phase.FAILED, **told))
    await page.goto(f"{measured.url}/performance")
    gates = page.get_by_role("group", name="Gates")
    await expect(gates).to_contain_text("rolled back")
    await gates.get_by_role("link", name="checkout").click()
    await expect(page.locator("#decision + p")).to_contain_text("rolled back")
    await expect(page.locator("#view")).to_contain_text("the gate rolled back")
    await expect(page.get_by_role("group", name="Its runs").locator("tbody tr")).to_have_count(6)
    await expect(page.get_by_role("group", name="Changes")).to_contain_text("p99")


async def test_a_saved_test_is_started_and_a_run_cancelled_by_who_may(
    page: Page, measured: Server, tmp_path: Path
) -> None:
    measured.asked.people = {
        "sre": {"identity": "ann", "groups": [], "may": ["perf.run", "perf.cancel"]},
        "dev": {"identity": "ben", "groups": [], "may": ["perf.run"]},
    }
    saved = tmp_path / "checkout.yaml"
    text = "test:\n  name: checkout\n  clients:\n  - endpoint_urls: [http://checkout.shop/pay]\n"
    saved.write_text(text)
    await page.goto(f"{measured.url}/performance")
    await page.get_by_role("link", name="Start a test").click()
    await expect(page.locator("#view")).to_contain_text("Who is signed in may start a test")
    await accessible(page)
    await page.goto("about:blank")
    await page.goto(f"{measured.url}/performance?start=yes#token=dev")
    await page.get_by_label("Saved test").set_input_files(saved)
    await expect(page.locator("#test")).to_have_value(text)
    await page.get_by_role("combobox", name="Cluster").select_option("c1")
    await accessible(page)
    start = page.get_by_role("button", name="Start")
    await start.click()
    dialog = page.get_by_role("dialog")
    for words in ("http://checkout.shop/pay", "what kind-shop measures", "As ben"):
        await expect(dialog).to_contain_text(words)
    await accessible(page)
    await dialog.get_by_role("button", name="Start").click()
    # It is followed at once. Who may start may not end it by that.
    await expect(page).to_have_url(f"{measured.url}/performance/r-now")
    cancel = page.get_by_role("button", name="Cancel")
    await expect(cancel).to_be_disabled()
    await page.goto("about:blank")
    await page.context.clear_cookies()
    await page.goto(f"{measured.url}/performance/r-now#token=sre")
    await cancel.click()
    await expect(dialog).to_contain_text("no load is left")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    (_, _, started), cancelled = measured.asked.done
    assert started == {"run": started["run"], "test": text, "cluster": "c1"}
    assert cancelled == ("ann", "perf.cancel", {"run": "r-now"})


async def test_states_of_the_view(page: Page, shop: Server) -> None:
    perf = shop.asked.perf
    perf.failure = BusUnavailable("perf does not answer")
    await page.goto(f"{shop.url}/performance")
    await expect(page.get_by_role("alert")).to_contain_text("perf does not answer")
    await accessible(page)
    perf.failure = None
    await page.get_by_role("button", name="Ask again").click()
    await expect(page.locator("#view")).to_contain_text("No performance run yet")
    await accessible(page)
    perf.add("r-1", state=RunState.WAITING)
    shop.tell(event("r-1", Phase.WAITING, kind="performance-test", service="perf"))
    await page.get_by_role("link", name="checkout").click()
    await expect(page.locator("#view")).to_contain_text("It waits for workers")
    await page.goto(f"{shop.url}/performance/unheard-of")
    await expect(page.get_by_role("alert")).to_contain_text("there is no run unheard-of")
    await page.goto(f"{shop.url}/performance?compare=yes")
    await expect(page.locator("h1")).to_have_text("Nothing is compared")


async def test_what_is_shown_stays_while_the_service_is_away(page: Page, measured: Server) -> None:
    await page.goto(f"{measured.url}/performance/r-now")
    await expect(page.locator(".tiles")).to_contain_text("1,200")
    await measured.stop()
    await expect(page.locator(".stale")).to_contain_text("Connection lost")
    await expect(page.locator(".tiles")).to_contain_text("1,200")
    measured.asked.perf.done("r-now", seed=9)
    await measured.start()
    await expect(page.locator("h1")).to_contain_text("succeeded")
    await expect(page.locator(".stale")).to_have_count(0)


ADDRESSES = (
    "/performance",
    "/performance/r-now",
    "/performance/r-1",
    "/performance/r-failed",
    "/performance/g-1",
    "/performance?compare=yes&before=r-0,r-1,r-2&after=r-3",
)


@pytest.mark.parametrize("path", ADDRESSES)
async def test_axe_finds_nothing(page: Page, measured: Server, path: str) -> None:
    await page.goto(f"{measured.url}{path}")
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("h1")).to_have_count(1)
    await expect(page.locator("[aria-busy]")).to_have_count(0)
    await accessible(page)


@pytest.mark.parametrize("width", [360, 3840])
async def test_no_width_has_to_be_scrolled_sideways(
    page: Page, measured: Server, width: int
) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    for path in ADDRESSES:
        await page.goto(f"{measured.url}{path}")
        await expect(page.locator("h1")).to_have_count(1)
        await expect(page.locator("[aria-busy]")).to_have_count(0)
        inside = "() => document.getElementById('view').scrollWidth - innerWidth"
        assert await page.evaluate(inside) <= 0, path
