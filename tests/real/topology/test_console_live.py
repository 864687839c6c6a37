"""The console before living services: operations as they go on, and after outages."""

from __future__ import annotations

import asyncio

from playwright.async_api import Page, expect

from tests.testbed.bodies import config_map
from tests.testbed.meshery import Meshery
from tests.testbed.seeing import Seeing

_TOLD = "Manifest deployed successfully"


async def test_an_operation_is_seen_as_it_is_asked_for(
    page: Page, seen: Seeing, token: str, topology_meshery: Meshery
) -> None:
    await page.goto(seen.url)
    card = page.locator(f".card[data-cluster='{token}']")
    await expect(card).to_contain_text("watching")
    operation = await topology_meshery.apply("custom", body=config_map("seen"))
    last = card.locator(f'a[href="/operations/{operation}"]')
    await last.click()
    await expect(page.locator("h1")).to_have_text("custom ✓ succeeded")
    events = page.locator(".events li")
    for phase in ("started", "wave", "done"):
        await expect(events.filter(has_text=phase).first).to_be_visible()
    await expect(page.locator(".on-cluster")).to_contain_text(_TOLD)
    told = await events.count()
    await page.reload()
    await expect(events).to_have_count(told)
    await topology_meshery.run("custom", body=config_map("seen"), delete=True)
    await page.goto(f"{seen.url}/operations?q={operation}")
    await expect(page.locator("table.rows tbody tr")).to_have_count(1)


async def test_it_goes_on_after_the_service_and_nats_were_away(
    page: Page, seen: Seeing, topology_meshery: Meshery
) -> None:
    await topology_meshery.run("custom", body=config_map("before"))
    await page.goto(f"{seen.url}/operations")
    rows = page.locator("table.rows tbody tr")
    await expect(rows.first).to_be_visible()
    await page.evaluate("() => { window.sameness = true; }")
    topology = seen.stack.processes["topology"]
    await asyncio.to_thread(topology.stop)
    await expect(page.locator(".stale")).to_be_visible()
    missed = await topology_meshery.apply("custom", body=config_map("before"), delete=True)
    await topology_meshery.finals(missed)
    await asyncio.to_thread(topology.start)
    await asyncio.to_thread(seen.stack.wait_ready, "topology")
    await expect(page.locator(f'a[href="/operations/{missed}"]')).to_be_visible()
    await expect(page.locator(".stale")).to_have_count(0)
    await asyncio.to_thread(seen.stack.nats.kill)
    await asyncio.to_thread(seen.stack.nats.start)
    later = await topology_meshery.accepted("custom", body=config_map("later"))
    row = rows.filter(has=page.locator(f'a[href="/operations/{later}"]'))
    await expect(row).to_contain_text("succeeded")
    await topology_meshery.run("custom", body=config_map("later"), delete=True)
    assert await page.evaluate("() => window.sameness === true")
