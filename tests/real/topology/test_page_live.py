"""The page against the real service and cluster: what kubectl does shows without a reload."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from playwright.async_api import Page, expect

from tests.testbed.clusters import Cluster
from tests.testbed.seeing import Seeing
from tests.testbed.shops import applied, listed, service

_SPACE = "default"
_DRAWN = """([name, wanted]) => {
  const { graph, live } = window.meshbus;
  const found = [...live.nodes.values()].filter((node) => node.service === name
    && graph.cy.getElementById(node.id).nonempty());
  return found.length === wanted;
}"""
_WITHIN_MS = 20_000


async def _opened(page: Page, seen: Seeing, token: str) -> None:
    await page.goto(f"{seen.url}/graph?cluster={token}")
    await page.wait_for_function("() => window.meshbus?.graph.cy.nodes('[!box]').nonempty()")
    await page.evaluate("() => { window.sameness = true; }")


async def _is_the_same(page: Page) -> bool:
    """Whether the page was not loaded again."""
    return bool(await page.evaluate("() => window.sameness === true"))


async def _draws(page: Page, name: str, *, count: int) -> None:
    """Waits until so many nodes of a service are drawn."""
    await page.wait_for_function(_DRAWN, arg=[name, count], timeout=_WITHIN_MS)


def _odd_service() -> dict[str, Any]:
    """One whose port's name says no protocol, which is a finding."""
    odd = service("page-odd", _SPACE)
    odd["spec"]["ports"] = [{"name": "weird", "port": 80}]
    return odd


async def test_a_service_and_a_finding_come_and_go_on_the_page(
    page: Page, seen: Seeing, token: str, cluster: Cluster
) -> None:
    await _opened(page, seen, token)
    note = page.locator("#findings article").filter(has_text="Service default/page-odd")
    with applied(cluster, listed(_odd_service())):
        await _draws(page, "page-odd", count=1)
        await page.click("#tab-findings")
        await expect(note).to_contain_text("IST0118")
        await note.get_by_role("button").click()
        await expect(page.locator("#details h2")).to_have_text("Service default/page-odd")
        selected = "() => window.meshbus.graph.cy.$(':selected').map((e) => e.data('label'))"
        assert await page.evaluate(selected) == ["page-odd"]
    await _draws(page, "page-odd", count=0)
    await expect(note).to_have_count(0)
    assert await _is_the_same(page)


async def test_the_page_comes_back_after_a_restart_and_knows_what_it_missed(
    page: Page, seen: Seeing, token: str, cluster: Cluster
) -> None:
    await _opened(page, seen, token)
    topology = seen.stack.processes["topology"]
    comes, goes = (json.dumps(service(name, _SPACE)) for name in ("page-comes", "page-goes"))
    with applied(cluster, goes):
        await _draws(page, "page-goes", count=1)
        await asyncio.to_thread(topology.stop)
        try:
            await expect(page.locator("#status")).to_contain_text("connection lost")
            cluster.kubectl("delete", "-f", "-", stdin=goes)
            cluster.kubectl("apply", "--server-side", "-f", "-", stdin=comes)
        finally:
            await asyncio.to_thread(topology.start)
    with applied(cluster, comes):
        await asyncio.to_thread(seen.stack.wait_ready, "topology")
        await _draws(page, "page-comes", count=1)
        await _draws(page, "page-goes", count=0)
    await _draws(page, "page-comes", count=0)
    await expect(page.locator("#status")).to_contain_text("connected")
    assert await _is_the_same(page)
