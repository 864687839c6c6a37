"""The console in a real browser: the fleet, operations, and what is around every view."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect

from deploy.bundling import PAGE
from services.chassis.messages import ErrorReport
from services.chassis.messages.events import Phase, Severity
from services.lifecycle.rollouts.records import Fate, RolloutPart, RolloutStep, Stage
from tests.real.topology.samples import (
    CLUSTER,
    Shop,
    described,
    drift,
    edge,
    event,
    finding,
    info,
    node,
    parts,
    rollout,
)
from tests.real.topology.serving import Server
from tests.testbed.waiting import eventually

AXE = PAGE / "node_modules" / "axe-core" / "axe.min.js"
_VIOLATIONS = """async () => {
  const { violations } = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a",
    "wcag21aa", "wcag22aa", "best-practice"] });
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ target, failureSummary }) => `${id} ${target.join(" ")}: ${failureSummary}`));
}"""


async def accessible(page: Page) -> None:
    """Asks axe about the page as it is, in both themes."""
    # The policy of the page lets no script in but its own; a test's may come by the debugger.
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(Path(AXE).read_text())
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        await expect(page.locator("html")).to_have_attribute("data-theme", theme)
        assert await page.evaluate(_VIOLATIONS) == [], theme


def install(server: Server) -> None:
    """An install that is under way, one that failed, and one that is done."""
    error = ErrorReport(
        code="MB-4007",
        summary="Deployment istio-system/istiod is not ready",
        cause="its image cannot be pulled",
        remedy="let the nodes reach the registry",
        subject="Deployment istio-system/istiod",
    )
    server.asked.operations = [
        described("op-runs", state="running", accepted="2026-05-01T12:00:00Z"),
        described("op-failed", state="failed", error=error, accepted="2026-05-01T11:00:00Z"),
        described("op-done", kind="bookinfo", accepted="2026-05-01T10:00:00Z"),
    ]
    server.asked.events = [
        event("op-failed", Phase.STARTED, 1),
        event("op-failed", Phase.FAILED, 2, severity=Severity.ERROR, error=error),
    ]
    server.tell(event("op-runs", Phase.STARTED, 1))
    server.tell(event("op-runs", Phase.PLANNED, 2, numbers={"objects": 40}))


async def test_the_fleet_says_how_each_cluster_is(page: Page, shop: Server) -> None:
    await page.goto(shop.url)
    card = page.locator(f".card[data-cluster='{CLUSTER}']")
    for text in ("kind-shop", "watching", "5, 5 in the mesh", "1 error", "1 object", "12.5 /s"):
        await expect(card).to_contain_text(text)
    await expect(card).to_contain_text("no control plane known")
    planes = [{"revision": "default", "version": "1.31.0"}, {"revision": "next", "version": ""}]
    told = {"state": "ok", "detail": "", "planes": planes, "proxies": {"synced": 3, "stale": 1}}
    shop.change(parts([node("late")], drifts=[drift("b")], about=info(controlPlane=told)))
    await expect(card).to_contain_text("1.31.0 (default), version unknown (next)")
    await expect(card).to_contain_text("3 of 4")
    await expect(card).to_contain_text("2 objects")
    install(shop)
    await expect(card).to_contain_text("Running now")
    await expect(page.locator("#bar .count")).to_have_text("1")
    shop.begin(parts([], about=info(name="green", cluster="c2")), cluster="c2")
    await expect(page.locator(".card")).to_have_count(2)
    shop.views.forget("c2")
    await expect(page.locator(".card")).to_have_count(1)
    await card.get_by_role("link", name="1 error").click()
    await expect(page).to_have_url(f"{shop.url}/findings?cluster={CLUSTER}")
    await expect(page.locator(".group")).to_contain_text("IST0101")
    await page.go_back()
    await expect(card).to_be_visible()


async def test_a_fleet_without_a_cluster_says_what_to_do(page: Page, server: Server) -> None:
    await page.goto(server.url)
    await expect(page.locator("#view")).to_contain_text("No cluster is registered")
    await accessible(page)
    server.begin(Shop.parts())
    await expect(page.locator(".card h2")).to_have_text("kind-shop")


async def test_an_install_is_watched_from_the_fleet_to_its_end(page: Page, shop: Server) -> None:
    install(shop)
    await page.goto(shop.url)
    await page.locator(".runs").get_by_role("link", name="istio", exact=True).click()
    await expect(page).to_have_url(f"{shop.url}/operations/op-runs")
    progress = page.locator("progress")
    shop.tell(event("op-runs", Phase.WAVE, 3, numbers={"objects": 30}, details="ConfigMap a"))
    await expect(progress).to_have_attribute("value", "30")
    await expect(page.locator(".events li")).to_have_count(3)
    await page.locator(".events summary").click()
    await expect(page.locator(".details")).to_have_text("ConfigMap a")
    # What is opened stays open while more comes.
    shop.tell(event("op-runs", Phase.READY, 4))
    await expect(page.locator(".events li")).to_have_count(4)
    await expect(page.locator(".details")).to_be_visible()
    shop.tell(event("op-runs", Phase.DONE, 5))
    await expect(page.locator("h1")).to_have_text("istio ✓ succeeded")
    await expect(progress).to_have_count(0)
    await expect(page.locator("#bar .count")).to_have_count(0)


async def test_a_failure_is_told_with_cause_and_remedy(page: Page, shop: Server) -> None:
    install(shop)
    await page.goto(f"{shop.url}/operations/op-failed")
    note = page.locator(".on-cluster .note")
    for text in ("MB-4007", "istiod is not ready", "its image cannot be pulled", "let the nodes"):
        await expect(note).to_contain_text(text)
    await page.goto(f"{shop.url}/operations/unheard-of")
    await expect(page.get_by_role("alert")).to_contain_text("no record of it")


async def test_operations_are_found_and_the_address_says_which(page: Page, shop: Server) -> None:
    install(shop)
    await page.goto(f"{shop.url}/operations")
    rows = page.locator("table.rows tbody tr")
    await expect(rows).to_have_count(3)
    await expect(page.locator("#now + .scroll tbody tr")).to_have_count(1)
    await page.fill("#operations-search", "bookinfo")
    await expect(rows).to_have_count(1)
    await expect(page).to_have_url(f"{shop.url}/operations?q=bookinfo")
    await page.reload()
    await expect(page.locator("#operations-search")).to_have_value("bookinfo")
    await expect(rows).to_have_count(1)
    await page.get_by_label("State").select_option("failed")
    await expect(page.locator("#view")).to_contain_text("No operation is like this")
    await page.get_by_role("button", name="Show all").click()
    await expect(rows).to_have_count(3)
    shop.tell(event("op-new", Phase.STARTED, kind="httpbin"))
    await expect(rows).to_have_count(4)


async def test_what_was_missed_is_told_after_the_connection_is_back(
    page: Page, shop: Server
) -> None:
    install(shop)
    await page.goto(f"{shop.url}/operations/op-runs")
    await expect(page.locator(".events li")).to_have_count(2)
    await shop.stop()
    await expect(page.locator(".stale")).to_contain_text("Connection lost")
    await expect(page.locator("#connection")).to_contain_text("connection lost")
    shop.tell(event("op-runs", Phase.DONE, 3))
    await shop.start()
    await expect(page.locator("h1")).to_contain_text("succeeded")
    await expect(page.locator(".stale")).to_have_count(0)
    await expect(page.locator(".events li")).to_have_count(3)


async def test_a_view_whose_code_could_not_be_loaded_comes_when_the_service_is_back(
    page: Page, shop: Server
) -> None:
    await page.goto(shop.url)
    await expect(page.locator(".card")).to_have_count(1)
    await page.evaluate("() => { window.sameness = true; }")
    await shop.stop()
    alert, title = page.get_by_role("alert"), page.get_by_role("heading", level=1)
    for name in ("Graph", "Findings"):
        await page.get_by_role("navigation").get_by_role("link", name=name).click()
        await expect(alert).to_contain_text("does not answer")
    await alert.get_by_role("button", name="Try again").click()
    await expect(alert).to_contain_text("does not answer")
    await shop.start()
    await expect(title).to_have_text("Findings")
    await page.get_by_role("navigation").get_by_role("link", name="Graph").click()
    await expect(title).to_have_text("Graph")
    assert await page.evaluate("() => window.sameness === true")
    # Another version has other files: only the whole page brings them.
    await page.route("**/static/drift-*.js", lambda route: route.fulfill(status=404))
    await page.get_by_role("navigation").get_by_role("link", name="Drift").click()
    await expect(alert).to_contain_text("another version")
    await accessible(page)
    await page.unroute("**/static/drift-*.js")
    await alert.get_by_role("button", name="Load the page again").click()
    await expect(title).to_have_text("Drift")
    assert await page.evaluate("() => window.sameness === undefined")


async def test_one_stream_however_one_goes_about(page: Page, shop: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/api/events" in one.url else None)
    await page.goto(shop.url)
    await expect(page.locator(".card")).to_have_count(1)
    for name in ("Operations", "Graph", "Fleet"):
        await page.get_by_role("navigation").get_by_role("link", name=name).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(name)
    await expect(page.locator("#connection")).to_have_text("live")
    assert len(asked) >= 4
    following = shop.pages.following if shop.pages is not None else None
    await eventually(
        lambda: following is not None and len(following._followers) == 1, what="one stream alone"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/operations",
        "/operations/op-failed",
        "/graph",
        "/findings",
        "/drift",
    ],
)
async def test_axe_finds_nothing(page: Page, shop: Server, path: str) -> None:
    install(shop)
    await page.goto(f"{shop.url}{path}")
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("[aria-busy]")).to_have_count(0)
    await accessible(page)


@pytest.mark.parametrize("width", [360, 3840])
async def test_no_width_has_to_be_scrolled_sideways(page: Page, shop: Server, width: int) -> None:
    install(shop)
    await page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", "/operations", "/operations/op-failed", "/graph", "/findings", "/drift"):
        await page.goto(f"{shop.url}{path}")
        await expect(page.locator("[aria-busy]")).to_have_count(0)
        wide = "() => document.documentElement.scrollWidth - innerWidth"
        assert await page.evaluate(wide) <= 0, path
        inside = "() => document.getElementById('view').scrollWidth - innerWidth"
        assert await page.evaluate(inside) <= 0, path


async def test_an_operation_leads_to_its_trace(page: Page, shop: Server) -> None:
    await shop.stop()
    shop.traces_url = "https://traces.example.com/search?operation={operation}"
    await shop.start()
    install(shop)
    await page.goto(f"{shop.url}/operations/op-failed")
    link = page.get_by_role("link", name="Its trace")
    await expect(link).to_have_attribute(
        "href", shop.traces_url.replace("{operation}", "op-failed")
    )


async def test_times_are_those_of_the_readers_zone(browser: Browser, shop: Server) -> None:
    install(shop)
    for zone, clock, name in (
        ("Asia/Tokyo", "20:00:00", "GMT+9"),
        ("America/Los_Angeles", "04:00:00", "GMT-7"),
    ):
        async with await browser.new_context(timezone_id=zone, locale="en-GB") as context:
            page = await context.new_page()
            await page.goto(f"{shop.url}/operations/op-failed")
            asked = page.locator("dl.facts time")
            await expect(asked).to_have_attribute("datetime", "2026-05-01T11:00:00Z")
            await expect(asked).to_have_text(f"01 May, {clock}")
            await expect(asked).to_have_attribute("title", f"1 May 2026, {clock} {name}")


async def test_a_tab_that_nobody_sees_rests_and_knows_afterwards_what_it_missed(
    browser: Browser, shop: Server
) -> None:
    install(shop)
    seen = """(isHidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.clock.install()
        await page.goto(f"{shop.url}/operations/op-runs")
        connection = page.locator("#connection")
        await expect(connection).to_have_text("live")
        await page.evaluate(seen, True)
        await page.clock.fast_forward(15_000)
        await expect(connection).to_have_text("resting")
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        shop.tell(event("op-runs", Phase.DONE, 3))
        await page.clock.fast_forward(600_000)
        assert asked == []
        await page.evaluate(seen, False)
        await expect(connection).to_have_text("live")
        await expect(page.locator("h1")).to_contain_text("succeeded")


async def test_who_is_here_is_asked_until_there_is_an_answer(
    browser: Browser, shop: Server
) -> None:
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.clock.install()
        await page.route("**/api/me", lambda route: route.fulfill(status=503, body="{}"))
        async with page.expect_response("**/api/me"):
            await page.goto(shop.url)
        await expect(page.locator("#connection")).to_have_text("live")
        await expect(page.locator("#sign-in")).to_have_count(0)
        await page.unroute("**/api/me")
        await page.clock.fast_forward(5_000)
        await expect(page.locator("#sign-in")).to_be_visible()


_FOCUS = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  if (one === document.body) return { name: "", inDialog: false, isSeen: false, isOutside: true };
  const place = one.getBoundingClientRect();
  const isOnScreen = place.width > 0 && place.bottom > 0 && place.top < innerHeight;
  return {
    name: (one.getAttribute("aria-label") ?? one.textContent).trim(),
    inDialog: one.closest("dialog") !== null,
    isSeen: isOnScreen && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
    isOutside: false, // In the browser's own controls, where the page has none.
  };
}"""


async def test_an_operation_is_opened_and_cancelled_by_keys_alone(page: Page, shop: Server) -> None:
    shop.asked.people = {"sre": {"identity": "ann", "may": ["lifecycle.cancel"], "groups": []}}
    install(shop)
    await page.goto(f"{shop.url}/#token=sre")
    await expect(page.locator("#who summary")).to_have_text("ann")
    await expect(page.locator(".card")).to_have_count(1)
    dialog = page.get_by_role("dialog")

    async def focus() -> dict[str, Any]:
        found: dict[str, Any] = await page.evaluate(_FOCUS)
        return found

    async def has(name: str) -> None:
        """Until what has this name has the focus."""
        await page.wait_for_function(f"name => ({_FOCUS})().name === name", arg=name)

    async def to(name: str, *, by: str = "Tab") -> None:
        for _ in range(60):
            await page.keyboard.press(by)
            found = await focus()
            assert found["isSeen"] or found["isOutside"], found
            if found["name"] == name:
                return
        raise AssertionError(f"no way to {name} by the keyboard")

    await to("Operations 1")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("Operations")
    await to("istio")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{shop.url}/operations/op-runs")
    await to("Cancel")
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("As ann")
    # What changes nothing is chosen first, and nothing behind the dialog is reached.
    await has("Leave it")
    for _ in range(6):
        await page.keyboard.press("Tab")
        found = await focus()
        assert found["inDialog"] or found["isOutside"], found
    for close in ("Escape", "Enter"):
        if close == "Enter":
            await page.keyboard.press("Enter")
            await expect(dialog).to_have_count(1)
            await has("Leave it")
        await page.keyboard.press(close)
        await expect(dialog).to_have_count(0)
        await has("Cancel")
    assert shop.asked.done == []
    await page.keyboard.press("Enter")
    await expect(dialog).to_have_count(1)
    await to("Cancel", by="Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    assert [name for _, name, _ in shop.asked.done] == ["lifecycle.cancel"]
    await has("Cancel")
    # The button goes with the operation; whoever goes by keys is in the view then.
    shop.tell(event("op-runs", Phase.CANCELLED, 3))
    await expect(page.locator("h1")).to_contain_text("cancelled")
    await page.wait_for_function("() => document.activeElement.id === 'view'")
    await to("Operations")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("Operations")


async def test_old_addresses_of_the_graph_lead_there(page: Page, shop: Server) -> None:
    await page.goto(f"{shop.url}/?cluster={CLUSTER}")
    await expect(page.locator("#graph")).to_be_visible()
    assert "/graph?cluster=" in page.url


async def test_findings_are_grouped_found_and_shown_in_their_object(
    page: Page, shop: Server
) -> None:
    warning = finding("pay", code="KIA1101", level="warning", path="spec.hosts")
    shop.begin(parts([], findings=[warning], about=info(name="green", cluster="c2")), cluster="c2")
    await page.goto(f"{shop.url}/findings")
    notes = page.locator(".group .note")
    await expect(notes).to_have_count(2)
    await expect(page.locator(".group h2")).to_have_text(["IST0101", "KIA1101"])
    for text in ("Cause no service", "Remedy correct the host", "on kind-shop", "since"):
        await expect(notes.first).to_contain_text(text)
    # The object, with the nearest line of it that the path leads to.
    await notes.first.locator("summary").click()
    await expect(notes.first.locator("mark")).to_have_text("spec:")
    shop.change(parts([], findings=[finding("late")]))
    await expect(notes).to_have_count(3)
    await expect(notes.first.locator("mark")).to_be_visible()
    await page.get_by_label("Cluster").select_option("c2")
    await expect(notes).to_have_count(1)
    await page.get_by_label("Level").select_option("error")
    await expect(page.locator("#view")).to_contain_text("Nothing like this is wrong")
    await page.goto(f"{shop.url}/findings?q=late&by=namespace")
    await expect(notes).to_have_count(1)
    await expect(page.locator(".group h2")).to_have_text("shop")
    shop.change({"findings": {"IST0101/late": None}})
    await expect(notes).to_have_count(0)
    shop.views.forget("c2")
    await page.goto(f"{shop.url}/findings")
    await expect(notes).to_have_count(1)


async def test_a_drift_is_healed_by_who_is_known_and_refused_to_a_stranger(
    page: Page, shop: Server
) -> None:
    shop.asked.people = {
        "sre": {"identity": "ann", "groups": [], "may": ["topology.heal"], "operations": []},
        "dev": {"identity": "ben", "groups": [], "may": [], "operations": []},
    }
    await page.goto(f"{shop.url}/drift")
    note = page.locator(".group .note")
    for text in ("Deployment shop/cart-v1", "kubectl-edit", "spec.replicas", "told only"):
        await expect(note).to_contain_text(text)
    heal = page.locator(".group").get_by_role("button", name="Heal")
    dialog = page.get_by_role("dialog")
    await heal.click()
    await expect(dialog).to_contain_text("Sign in")
    await page.fill("#token", "dev")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(heal).to_be_disabled()
    await page.locator("#who summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.locator("#sign-in").click()
    await page.fill("#token", "sre")
    await dialog.get_by_role("button", name="Sign in").click()
    await heal.click()
    await expect(dialog).to_contain_text("is put back as it was applied")
    await expect(dialog).to_contain_text("spec.replicas")
    await accessible(page)
    await dialog.get_by_role("button", name="Heal").click()
    await expect(dialog).to_have_count(0)
    assert shop.asked.done == [
        ("ann", "topology.heal", {"cluster": CLUSTER, "drift": drift()["id"]})
    ]
    # What goes wrong is said in the dialog, and nothing is lost.
    shop.asked.people.clear()
    await heal.click()
    await dialog.get_by_role("button", name="Heal").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("not accepted")
    await page.keyboard.press("Escape")
    await expect(page.locator("#sign-in")).to_be_visible()
    shop.change({"drift": {drift()["id"]: None}})
    await expect(page.locator("#view")).to_contain_text("is as it was applied")


async def test_a_running_operation_is_cancelled_by_who_may(page: Page, shop: Server) -> None:
    shop.asked.people = {"sre": {"identity": "ann", "may": ["lifecycle.cancel"], "groups": []}}
    install(shop)
    await page.goto(f"{shop.url}/operations/op-runs#token=sre")
    await page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("What it has applied until then stays")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    [(who, name, question)] = shop.asked.done
    assert (who, name) == ("ann", "lifecycle.cancel")
    assert question == {"operation": "op-runs", "cluster": CLUSTER}
    # What waits in its queue is in nobody's hand yet.
    shop.asked.is_begun = False
    await page.get_by_role("button", name="Cancel").click()
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Nothing was stopped")
    await page.keyboard.press("Escape")
    await page.goto(f"{shop.url}/operations/op-done")
    await page.get_by_role("link", name="Repeat").click()
    assert "/start?kind=bookinfo" in page.url


async def test_what_is_asked_before_it_is_known_who_is_here_waits_for_that(
    page: Page, shop: Server
) -> None:
    """On a busy machine a click may come sooner than the answer about a link's token."""
    shop.asked.people = {"sre": {"identity": "ann", "may": ["lifecycle.cancel"], "groups": []}}
    install(shop)
    released = asyncio.Event()

    async def late(route: Route) -> None:
        await released.wait()
        await route.continue_()

    await page.route("**/api/session", late)
    async with page.expect_request("**/api/session"):
        await page.goto(f"{shop.url}/operations/op-runs#token=sre")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    released.set()
    await expect(page.get_by_role("dialog")).to_contain_text("As ann")
    # Nobody's click is answered by the sign-in.
    await page.context.clear_cookies()
    await page.reload()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_contain_text("say who you are")


ROLLED = "lifecycle.rollout"


async def test_a_rollout_is_steered_by_who_may_and_refused_to_a_stranger(
    page: Page, shop: Server
) -> None:
    steering = [f"{ROLLED}{verb}" for verb in ("pause", "resume", "abort", "back")]
    shop.asked.people = {
        "sre": {"identity": "ann", "groups": [], "may": steering},
        "dev": {"identity": "ben", "groups": [], "may": [f"{ROLLED}pause"]},
    }
    first = RolloutPart(cluster=CLUSTER, name="kind-shop", fate=Fate.DONE, is_changed=True)
    second = RolloutPart(
        cluster="c2",
        name="green",
        step=RolloutStep.MOVE,
        is_changed=True,
        namespaces=["pay", "shop"],
    )
    third = RolloutPart(cluster="c3", name="blue")
    clusters = (first, second, third)
    shop.asked.operations = [described("op-roll", kind="istio-rollout", state="running")]
    shop.asked.rollouts["op-roll"] = rollout("op-roll", *clusters, wave=1)
    await page.goto(f"{shop.url}/operations/op-roll")
    place = page.get_by_role("region", name="Rollout of Istio 1.31.0")
    for text in ("2 of 3", "the gate looks", "holds so far", "under way", "waiting"):
        await expect(place).to_contain_text(text)
    # An operation that is steered is not cancelled cluster by cluster.
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    await accessible(page)
    await place.get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("say who you are")
    await page.fill("#token", "dev")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog).to_have_count(0)
    for name in ("Abort", "Roll back all", "Roll back green"):
        await expect(place.get_by_role("button", name=name)).to_be_disabled()
    await page.locator("#who summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.goto("about:blank")
    await page.goto(f"{shop.url}/operations/op-roll#token=sre")

    async def steer(button: str, *words: str) -> None:
        await place.get_by_role("button", name=button, exact=True).click()
        for text in (*words, "As ann"):
            await expect(dialog).to_contain_text(text)
        await dialog.get_by_role("button", name=button.removesuffix(" green")).click()
        await expect(dialog).to_have_count(0)

    await steer("Pause", "Steps that are under way come to their end")
    shop.asked.rollouts["op-roll"] = rollout("op-roll", *clusters, wave=1, is_paused=True)
    await expect(place.get_by_role("heading")).to_contain_text("paused")
    await steer("Resume", "the gate looks, wave 2 of 3")
    shop.asked.rollouts["op-roll"] = rollout(
        "op-roll", *clusters, wave=1, broken_since=datetime.now(timezone.utc)
    )
    await expect(place).to_contain_text("does not hold")
    await steer(
        "Roll back green", "2 namespaces move back", "pay, shop", "The other clusters go on"
    )
    await steer("Abort", "Clusters of the open wave go back: green.", "Waves that are done stay")
    await steer("Roll back all", "1 cluster", "green")
    told = {"rollout": "op-roll"}
    assert shop.asked.done == [
        ("ann", f"{ROLLED}pause", told),
        ("ann", f"{ROLLED}resume", told),
        ("ann", f"{ROLLED}back", {**told, "cluster": "c2"}),
        ("ann", f"{ROLLED}abort", told),
        ("ann", f"{ROLLED}back", {**told, "cluster": "*"}),
    ]
    stopped = ErrorReport(code="MB-4016", summary="green: errors", cause="", remedy="look at it")
    ended = {"stage": Stage.OVER, "reason": stopped, "ended": datetime.now(timezone.utc)}
    shop.asked.rollouts["op-roll"] = rollout("op-roll", *clusters, wave=1, **ended)
    await expect(place).to_contain_text("MB-4016")
    await expect(place.get_by_role("button")).to_have_count(0)


async def test_a_mesh_of_several_clusters_is_stopped_and_goes_nowhere_back(
    page: Page, shop: Server
) -> None:
    shop.asked.people = {"sre": {"identity": "ann", "may": [f"{ROLLED}abort"], "groups": []}}
    shop.asked.operations = [described("op-mesh", kind="istio-multicluster", state="running")]
    part = RolloutPart(cluster=CLUSTER, name="kind-shop", step=RolloutStep.TRUST, is_changed=True)
    shop.asked.rollouts["op-mesh"] = rollout(
        "op-mesh", part, title="mesh shop", options={"what": "mesh"}, stage=Stage.TRUST
    )
    await page.goto(f"{shop.url}/operations/op-mesh#token=sre")
    place = page.get_by_role("region", name="mesh shop")
    await expect(place).to_contain_text("trust")
    await expect(place.get_by_role("button", name="Roll back")).to_have_count(0)
    await place.get_by_role("button", name="Abort").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("What was done stays")
    await dialog.get_by_role("button", name="Abort").click()
    await expect(dialog).to_have_count(0)
    assert shop.asked.done == [("ann", f"{ROLLED}abort", {"rollout": "op-mesh"})]


async def test_all_clusters_are_one_graph(page: Page, shop: Server) -> None:
    own = node("cart", "shop", cluster="c2", id="theirs", configs=Shop.cart["configs"])
    # As the other cluster's telemetry names it, and as it is at home.
    guest = {**Shop.web, "isOutside": True, "configs": []}
    call = edge(guest, own, rate="2.00")
    there = parts(
        [own, guest], [call], findings=[finding()], about=info(name="green", cluster="c2")
    )
    shop.begin(there, cluster="c2")
    await page.goto(f"{shop.url}/graph?cluster=*")
    await expect(page.locator("#cluster option:checked")).to_have_text("all clusters")
    drawn = "wanted => window.meshbus?.graph.cy.nodes('[!box]').length === wanted"
    await page.wait_for_function(drawn, arg=len(Shop.nodes) + 1)
    outside = "id => window.meshbus.graph.cy.getElementById(id).data('outside')"
    assert await page.evaluate(outside, Shop.web["id"]) is False
    # Objects of the same name are told apart by their cluster.
    await expect(page.locator("#findings-count")).to_have_text("2")
    shop.change({"findings": {"IST0101/cart": None}}, cluster="c2")
    await expect(page.locator("#findings-count")).to_have_text("1")
    level = "id => window.meshbus.graph.cy.getElementById(id).data('level')"
    await page.wait_for_function(f"id => ({level})(id) === ''", arg="theirs")
    assert await page.evaluate(level, Shop.cart["id"]) == "error"
    shop.change({"versionedApp.nodes": {Shop.web["id"]: None}})
    await page.wait_for_function(f"id => ({outside})(id) === true", arg=Shop.web["id"])
    shop.begin(
        parts([node("late", cluster="c3")], about=info(name="red", cluster="c3")), cluster="c3"
    )
    await page.wait_for_function(drawn, arg=len(Shop.nodes) + 2)
    shop.views.forget("c2")
    await page.wait_for_function(drawn, arg=len(Shop.nodes))
    await page.select_option("#cluster", CLUSTER)
    await page.wait_for_function(drawn, arg=len(Shop.nodes) - 1)
