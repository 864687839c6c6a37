"""Performance in the console before living services: a run watched to its verdict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Page, expect

from services.chassis.bus.connection import connect
from services.gateway.door import tokens
from tests.real.topology.conftest import ANN, IDENTITY
from tests.testbed import loopback
from tests.testbed.backends import Backend, Backends
from tests.testbed.perfrigs import Rig, smp
from tests.testbed.stack import Stack


@pytest.fixture
def target() -> Iterator[Backend]:
    with Backends() as running:
        yield running.add("target", delay_s=0.01)


@pytest.fixture
async def rig(built: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """NATS, topology with its console, the gateway, and two workers of perf."""
    folder = tmp_path_factory.mktemp("performance")
    known = folder / "tokens.yaml"
    known.write_text(tokens.entry(IDENTITY, [], ANN))
    settings = {
        "MESHBUS_PERF_PROGRESS": "1s",
        "MESHBUS_GATEWAY_TOKENS": str(known),
        "MESHBUS_GATEWAY_ANONYMOUS": "true",
    }
    stack = Stack(folder / "stack", services=("topology", "gateway"), settings=settings)
    await asyncio.to_thread(stack.start)
    try:
        bus = await connect(stack.settings("operator"), service="operator")
        try:
            rig = Rig(stack, bus)
            await asyncio.to_thread(rig.add, 2)
            yield rig
        finally:
            await bus.close()
    finally:
        await asyncio.to_thread(stack.stop)


async def test_a_run_is_watched_to_its_verdict(page: Page, rig: Rig, target: Backend) -> None:
    url = f"http://{loopback.HOST}:{target.port}/"
    console = rig.stack.health_url("topology")

    def test(duration: str) -> str:
        return smp(url, rps=50, duration=duration, name="checkout", baseline="nightly")

    await page.goto(f"{console}/performance")
    await expect(page.locator("#view")).to_contain_text("No performance run yet")
    # Somebody starts one, and it is followed as it goes on.
    await page.goto(f"{console}/performance?start=yes#token={ANN}")
    await expect(page.locator("#who summary")).to_have_text(IDENTITY)
    await page.fill("#test", test("10s"))
    await page.get_by_role("button", name="Start").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(url)
    await dialog.get_by_role("button", name="Start").click()
    await expect(page.locator("h1")).to_contain_text("checkout")
    run = page.url.rpartition("/")[2]
    tiles = page.locator(".tiles")
    await expect(page.locator(".chart canvas")).to_have_count(2)
    curve = (await rig.status(run))["curve"]
    assert [sample["at_s"] for sample in curve] == sorted(s["at_s"] for s in curve)
    await expect(page.get_by_role("group", name="Answers of the last seconds")).to_contain_text(
        "200"
    )
    await expect(page.locator("h1")).to_have_text("checkout ✓ succeeded")
    await expect(page.locator(".chart canvas")).to_have_count(3)
    await expect(tiles).to_contain_text("500")
    assert target.requests.total() == 500
    # A slower service, beside the baseline and beside the run before.
    target.delay_s = 0.05
    await page.goto(f"{console}/performance")
    later = await rig.start(test("10s"))
    # It appears by itself.
    running = page.locator("#running + .scroll")
    await expect(running.get_by_role("link", name="checkout")).to_be_visible()
    await rig.until(later, "done")
    await page.goto(f"{console}/performance/{later}")
    await page.get_by_role("link", name=f"Compare with {run}").click()
    changes = page.get_by_role("group", name="Changes")
    await expect(changes).to_contain_text("p50")
    await expect(page.locator("#view")).to_contain_text("Too few runs")
    await page.goto(f"{console}/performance?compare=yes&before=baseline:nightly&after={later}")
    await expect(page.locator("dl.facts")).to_contain_text(run)
    # Somebody stops one that would go on for a minute.
    stopped = await rig.start(test("60s"))
    await page.goto(f"{console}/performance/{stopped}")
    await expect(page.locator(".chart canvas")).to_have_count(2)
    seen = (await rig.status(stopped))["curve"]
    await page.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_contain_text(f"As {IDENTITY}")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(page.locator("h1")).to_have_text("checkout ▲ cancelled")
    await expect(page.locator(".chart canvas")).to_have_count(2)
    kept = (await rig.status(stopped))["curve"]
    assert kept[: len(seen)] == seen
    assert list(rig.stack.refusals("topology")) == []
