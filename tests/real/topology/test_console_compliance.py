"""Compliance in the console: grouped, filtered, printed, and told where a cluster is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from playwright.async_api import Page, expect

from services.chassis.errors import BusUnavailable, ClusterNotWatched
from services.chassis.messages import ErrorReport
from services.topology.cluster.state import State
from services.topology.reports import compliance
from tests.real.topology.samples import CLUSTER, described, info, parts
from tests.real.topology.serving import Server
from tests.real.topology.test_console import accessible
from tests.unit.topology.analysis.kia.cases import (
    SECURITY,
    SIDECARS,
    WITH_PROXY,
    one,
    pod,
    space,
    state_of,
)


def teams() -> State:
    """Two teams: one whose workloads are strict, one that has left its own outside."""
    text = (
        SIDECARS
        + space("money", "{istio-injection: enabled, team: payments}")
        + space("shop", "{team: web}")
        + one(SECURITY, "PeerAuthentication", "strict", "{mtls: {mode: STRICT}}", namespace="money")
        + one(
            SECURITY,
            "AuthorizationPolicy",
            "callers",
            "{action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]}",
            namespace="money",
        )
        + pod("pay", "{app: pay}", containers=WITH_PROXY, namespace="money")
        + pod("cart", "{app: cart}", namespace="shop")
        + pod("front", "{app: front, team: design}", containers=WITH_PROXY, namespace="shop")
    )
    return state_of(text)[0]


@pytest.fixture
def kept(shop: Server) -> Server:
    shop.past.states[CLUSTER] = teams()
    return shop


async def test_workloads_are_grouped_and_the_address_says_how(page: Page, kept: Server) -> None:
    await page.goto(f"{kept.url}/compliance")
    rows = page.get_by_role("group", name="Workloads").locator("tbody tr")
    await expect(rows).to_have_count(3)
    await page.get_by_role("search").locator("select").select_option("team")
    groups = page.get_by_role("group", name="By team").locator("tbody tr")
    await expect(groups.locator("td:first-child")).to_have_text(["design", "payments", "web"])
    await groups.get_by_role("link", name="payments").click()
    await expect(rows).to_have_count(1)
    for text in ("money/pay", "strict", "denied", "ALLOW callers"):
        await expect(rows).to_contain_text(text)
    await page.reload()
    await expect(rows).to_have_count(1)
    assert "by=team" in page.url
    assert "group=payments" in page.url
    await groups.get_by_role("link", name="payments").click()
    await page.get_by_label("only with a gap").check()
    await expect(rows).to_have_count(2)
    await page.fill("#compliance-search", "cart")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("not in it")
    await page.fill("#compliance-search", "nothing like it")
    await page.get_by_role("button", name="Show all").click()
    await expect(rows).to_have_count(3)


def went(server: Server, *, at: datetime, state: State | None = None) -> None:
    """What was kept at a moment: as it is now, or as another state is."""
    found = compliance.report(state or teams(), findings=(), now=at, team_label="team")
    server.past.kept.add(replace(found, cluster=CLUSTER, name="kind-shop"))


def without_policies() -> State:
    state = teams()
    for found in list(state.all("security.istio.io/PeerAuthentication")):
        state.drop(found.key)
    return state


async def test_how_it_went_over_time(page: Page, kept: Server) -> None:
    now = datetime.now(timezone.utc)
    await page.goto(f"{kept.url}/compliance")
    over_time = page.get_by_role("region", name="Over time")
    await expect(over_time).to_contain_text("Nothing is kept of this yet")
    went(kept, at=now - timedelta(hours=30))
    went(kept, at=now)
    await page.goto(f"{kept.url}/compliance?by=team")
    await expect(over_time.locator(".plot canvas")).to_be_visible()
    legend = over_time.locator(".legend li")
    await expect(legend).to_have_text(["design 0 %", "payments 100 %"])
    await expect(over_time).to_contain_text("Nothing was kept at the beginning of kind-shop")
    await over_time.get_by_label("Range").select_option("30d")
    await expect(page).to_have_url(re.compile("range=30d"))
    await expect(over_time).to_contain_text("the last 30 days")
    await accessible(page)
    await over_time.get_by_label("Check").select_option("mesh")
    await expect(legend).to_have_text(["web 0 %", "design 100 %", "payments 100 %"])
    await page.get_by_role("group", name="By team").get_by_role("link", name="web").click()
    await expect(legend).to_have_text(["web 0 %"])
    await page.reload()
    await expect(legend).to_have_text(["web 0 %"])


async def test_what_changed_is_listed(page: Page, kept: Server) -> None:
    now = datetime.now(timezone.utc)
    went(kept, at=now - timedelta(days=8), state=without_policies())
    went(kept, at=now - timedelta(days=1))
    await page.emulate_media(color_scheme="dark")
    await page.goto(f"{kept.url}/compliance?by=namespace")
    rows = page.get_by_role("group", name="What changed").locator("tbody tr")
    await expect(rows).to_have_count(1)
    for text in ("mended", "mTLS strict", "money/pay", "kind-shop", "payments"):
        await expect(rows).to_contain_text(text)
    await accessible(page)
    await page.get_by_role("group", name="By namespace").get_by_role("link", name="shop").click()
    await expect(page.locator("#view")).to_contain_text("Nothing began or ceased to fail")
    kept.past.kept.failure = BusUnavailable("the history could not be read in time")
    await page.reload()
    alert = page.get_by_role("region", name="Over time").get_by_role("alert")
    await expect(alert).to_contain_text("could not be read in time")
    kept.past.kept.failure = None
    await alert.get_by_role("button", name="Ask again").click()
    await expect(page.locator("#view")).to_contain_text("What changed")


async def test_it_prints_whole_and_on_white(page: Page, kept: Server) -> None:
    await page.set_viewport_size({"width": 800, "height": 300})
    await page.emulate_media(color_scheme="dark")
    await page.goto(f"{kept.url}/compliance")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.emulate_media(media="print", color_scheme="dark")
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    await expect(page.locator("#bar")).not_to_be_visible()
    await expect(page.locator("#compliance-search")).not_to_be_visible()
    # Nothing is left behind the edge of a scrolled box.
    cut = """() => [...document.querySelectorAll("#view, .scroll")]
      .filter((one) => getComputedStyle(one).overflowY !== "visible").length"""
    assert await page.evaluate(cut) == 0
    assert len(re.findall(rb"/Type\s*/Page\b", await page.pdf())) >= 1
    await page.emulate_media(media="screen", color_scheme="dark")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_other_forms_are_a_click_away(page: Page, kept: Server) -> None:
    await page.goto(f"{kept.url}/compliance")
    async with page.expect_download() as told:
        await page.get_by_role("link", name="CSV").click()
    content = (await (await told.value).path()).read_text()
    assert content.splitlines()[0].endswith("findings,team")
    assert sum("payments" in line for line in content.splitlines()) == 1
    await page.get_by_role("link", name="one page").click()
    await expect(page.locator("h1")).to_have_text("Mesh compliance")


async def test_states_of_the_view(page: Page, server: Server) -> None:
    await page.goto(f"{server.url}/compliance")
    await expect(page.locator("#view")).to_contain_text("No cluster is watched")
    await accessible(page)
    server.past.failure = ClusterNotWatched("this worker does not watch it")
    server.begin(parts([], about=info()))
    await page.reload()
    await expect(page.locator(".note")).to_contain_text("is not in here")
    await accessible(page)
    await server.stop()
    await expect(page.locator(".stale")).to_contain_text("Connection lost")
    views = page.get_by_role("navigation")
    await views.get_by_role("link", name="Fleet").click()
    await views.get_by_role("link", name="Compliance").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not answer")
    # What was asked meanwhile is asked again by itself.
    server.past.failure = None
    await server.start()
    await expect(page.locator("#view")).to_contain_text("No workload is there")


async def test_axe_finds_nothing(page: Page, kept: Server) -> None:
    for path in ("/compliance", "/compliance?by=team&group=web"):
        await page.goto(f"{kept.url}{path}")
        await expect(page.locator("h1")).to_have_text("Compliance")
        await expect(page.locator("#connection")).to_have_text("live")
        await accessible(page)


# What reaches over the right edge, but for what is in a box that scrolls where that is a way out.
_WIDE = """(isScrolled) => [...document.querySelectorAll("#view, #view *")].filter((one) => {
  const place = one.getBoundingClientRect();
  if (place.width === 0 || one.closest("canvas, .hidden-label, .u-over")) return false;
  if (isScrolled && one.parentElement.closest(".scroll")) return false;
  return Math.floor(place.right) > innerWidth;
}).map((one) => `${one.tagName}.${one.className} ${one.textContent.slice(0, 40)}`)"""
_PAPER, _PHONE, _WALL = 718, 360, 3840
"""Widths in CSS pixels: A4 between its margins, and the smallest and the largest screen."""


def history(server: Server) -> None:
    """Operations and compliance with a past, and with names as long as they come."""
    long = "checkout-recommendation-service-with-a-name-as-teams-give-them"
    text = "".join(
        pod(f"{long}-{number}", f"{{app: a{number}, team: {long}}}", namespace="shop")
        for number in range(20)
    )
    state = state_of(SIDECARS + space("shop") + text)[0]
    now = datetime.now(timezone.utc)
    went(server, at=now - timedelta(days=40), state=without_policies())
    went(server, at=now - timedelta(days=8), state=state)
    went(server, at=now - timedelta(days=1))
    server.past.states[CLUSTER] = state
    error = ErrorReport(code="MB-4007", summary=f"{long} is not ready", cause="", remedy="look")
    server.asked.operations = [
        described(f"op-{number}-{long}", state=state, error=error if state == "failed" else None)
        for number, state in enumerate(("succeeded", "failed", "cancelled") * 8)
    ]


@pytest.mark.parametrize("width", [_PAPER, _PHONE, _WALL])
async def test_what_was_is_readable_at_every_width(page: Page, shop: Server, width: int) -> None:
    history(shop)
    is_paper = width == _PAPER
    await page.set_viewport_size({"width": width, "height": 900})
    for path, table in (
        ("/operations", "Operations"),
        ("/compliance?by=team", "What changed"),
        ("/compliance?by=namespace&range=30d", "Workloads"),
    ):
        await page.emulate_media(media="screen")
        await page.goto(f"{shop.url}{path}")
        rows = page.get_by_role("group", name=table, exact=True).locator("tbody tr")
        await expect(rows.first).to_be_visible()
        if is_paper:
            await page.emulate_media(media="print")
            await expect(page.locator("#bar")).not_to_be_visible()
        # On a phone a table scrolls by itself, and its page does not.
        assert await page.evaluate(_WIDE, width == _PHONE) == [], path
        if not is_paper:
            await accessible(page)
        else:
            pages = len(re.findall(rb"/Type\s*/Page\b", await page.pdf(format="A4")))
            assert 1 <= pages < 6, path


@pytest.mark.parametrize("width", [360, 3840])
async def test_no_width_has_to_be_scrolled_sideways(page: Page, kept: Server, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await page.goto(f"{kept.url}/compliance")
    await expect(page.locator("h1")).to_have_text("Compliance")
    inside = "() => document.getElementById('view').scrollWidth - innerWidth"
    assert await page.evaluate(inside) <= 0
