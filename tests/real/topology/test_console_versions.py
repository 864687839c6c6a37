"""Istio's versions over the fleet, on the console's front page."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from services.chassis.errors import ClusterNotWatched
from tests.real.topology.samples import CLUSTER, info, parts
from tests.real.topology.serving import Server
from tests.real.topology.test_console import accessible


@pytest.fixture
async def fleet(server: Server) -> Server:
    """Two clusters, of which one has proxies that are too old, and one that cannot be reached."""
    plane = {"revision": "default", "version": "1.31.0"}

    def proxies(version: str, under: str, count: int, *, supported: bool) -> dict[str, object]:
        pair = {"version": version, "controlPlane": under}
        return {**pair, "count": count, "supported": supported}

    server.begin(parts([], about=info()))
    server.begin(parts([], about=info(name="green", cluster="c2")), cluster="c2")
    gone = info(name="red", cluster="c3", state="unreachable", detail="nobody answers there")
    server.begin(parts([], about=gone), cluster="c3")
    server.past.versions = {
        CLUSTER: {
            "controlPlanes": [plane],
            "proxies": [
                proxies("1.9.1", "1.31.0", 2, supported=False),
                proxies("1.31.0", "1.31.0", 40, supported=True),
            ],
        },
        "c2": {
            "controlPlanes": [plane | {"version": "1.30.0"}],
            "proxies": [proxies("1.30.0", "", 3, supported=True)],
        },
    }
    return server


async def test_versions_are_summed_and_told_by_cluster(page: Page, fleet: Server) -> None:
    await page.goto(fleet.url)
    section = page.get_by_role("region", name="Istio's versions")
    summed = section.get_by_role("group", name="By version").locator("tbody tr")
    await expect(summed.locator("td:first-child")).to_have_text(["1.31.0", "1.30.0", "1.9.1"])
    await expect(summed.nth(0)).to_have_text(re.compile(r"1\.31\.0\s*1\s*40\s*0"))
    await expect(summed.nth(2)).to_contain_text("✕ 2")
    await expect(section).to_contain_text("2 proxies do not go with their control plane")
    await expect(section.locator(".note")).to_contain_text("Cluster red is not in here")
    await expect(section.locator(".note")).to_contain_text("nobody answers there")
    rows = section.get_by_role("group", name="Versions by cluster").locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("1.30.0 (default)")
    await expect(rows.nth(0)).to_contain_text("3 of 1.30.0 no control plane knows them")
    await expect(rows.nth(1)).to_contain_text("2 of 1.9.1 not supported under 1.31.0")
    await accessible(page)
    # By the keyboard, and the address says it.
    await section.get_by_role("checkbox").focus()
    await page.keyboard.press("Space")
    await expect(rows).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"only=skew"))
    await page.reload()
    await expect(rows).to_have_count(1)
    await expect(section.get_by_role("checkbox")).to_be_checked()


async def test_the_whole_fleet_is_a_click_away(page: Page, fleet: Server) -> None:
    """Graph, findings, drift and compliance of all clusters together, from the front page."""
    for name, path, told in (
        ("0 errors in the configuration", "/findings", "Findings"),
        ("no drift", "/drift", "Drift"),
        ("compliance", "/compliance", "Compliance"),
    ):
        await page.goto(fleet.url)
        await page.locator(".sums").get_by_role("link", name=name).click()
        await expect(page).to_have_url(f"{fleet.url}{path}")
        await expect(page.locator("h1")).to_have_text(told)
    await page.goto(fleet.url)
    await page.locator(".sums").get_by_role("link", name="all on one graph").click()
    await expect(page).to_have_url(re.compile(r"/graph\?cluster=\*"))


async def test_states_of_the_versions(page: Page, fleet: Server) -> None:
    fleet.past.versions = {}
    await page.goto(fleet.url)
    section = page.get_by_role("region", name="Istio's versions")
    await expect(section).to_contain_text("No control plane and no proxy of Istio is known")
    await accessible(page)
    fleet.past.failure = ClusterNotWatched("this worker does not watch it")
    # What was answered a moment ago is held for all browsers; a new server holds nothing.
    await fleet.stop()
    await fleet.start()
    await page.reload()
    await expect(section.locator(".note")).to_have_count(3)
    await fleet.stop()
    await expect(page.locator(".stale")).to_contain_text("Connection lost")
    views = page.get_by_role("navigation")
    await views.get_by_role("link", name="Bus").click()
    await views.get_by_role("link", name="Fleet").click()
    await expect(section.get_by_role("alert")).to_contain_text("does not answer")
    await accessible(page)
    fleet.past.failure = None
    await fleet.start()
    await expect(section).to_contain_text("No control plane and no proxy of Istio is known")


@pytest.mark.parametrize("width", [360, 3840])
async def test_no_width_has_to_be_scrolled_sideways(page: Page, fleet: Server, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await page.goto(fleet.url)
    await expect(page.get_by_role("region", name="Istio's versions")).to_contain_text("1.9.1")
    inside = "() => document.getElementById('view').scrollWidth - innerWidth"
    assert await page.evaluate(inside) <= 0
