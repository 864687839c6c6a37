"""The console before living services, as people use it: an install watched to its end, a drift
healed, a rollout steered, and what a network that was away does to a tab."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.real.topology.conftest import ANN, IDENTITY
from tests.testbed.bodies import PURGE, config_map, options
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.proxies import FaultProxy
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.seeing import Seeing
from tests.testbed.stored import audit_entries
from tests.testbed.waiting import eventually

WITHIN_MS = 240_000
SPACE = "default"
_HEAL = """() => fetch("/api/write", {
  method: "POST", headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ name: "topology.heal", question: {} }),
}).then(({ status }) => status)"""


@pytest.fixture
async def bare(topology_meshery: Meshery) -> AsyncIterator[None]:
    """Leaves no Istio behind."""
    yield
    gone = await topology_meshery.run("istio", delete=True, body=PURGE)
    assert not gone.failed, gone.event


async def test_an_install_is_watched_from_the_fleet_until_the_fleet_shows_it(
    page: Page, seen: Seeing, token: str, topology_meshery: Meshery, bare: None
) -> None:
    page.set_default_timeout(WITHIN_MS)
    await page.goto(seen.url)
    card = page.locator(f".card[data-cluster='{token}']")
    await expect(card).to_contain_text("no control plane known")
    operation = await topology_meshery.apply(
        "istio", version=ISTIO_VERSION, body=options(profile="minimal")
    )
    runs = card.get_by_role("region", name="Operations")
    await expect(runs).to_contain_text("Running now")
    await runs.locator(f'a[href="/operations/{operation}"]').click()
    progress = page.locator("progress")
    await expect(progress).to_be_visible()
    planned = int(await progress.get_attribute("max") or 0)
    assert planned > 10
    events = page.locator(".events li")
    for phase in ("started", "planned", "wave", "ready", "done"):
        await expect(events.filter(has_text=phase).first).to_be_visible(timeout=WITHIN_MS)
    await expect(page.locator("h1")).to_have_text("istio ✓ succeeded")
    await expect(progress).to_have_count(0)
    # The waves are all of the plan.
    assert sum(await _applied(seen, operation)) == planned
    await page.get_by_role("navigation").get_by_role("link", name="Fleet").click()
    await expect(card).to_contain_text(f"{ISTIO_VERSION} (default)", timeout=WITHIN_MS)
    await expect(runs).to_contain_text("Last operation")
    await expect(runs).to_contain_text("succeeded")


async def _applied(seen: Seeing, operation: str) -> list[int]:
    """Objects of each wave, as the page's own question tells them."""
    status, text = await seen.get(
        f'/api/ask?name=gateway.events&question={{"operation":"{operation}"}}'
    )
    assert status == 200, text
    events = json.loads(text)["events"]
    return [event["numbers"]["objects"] for event in events if event["phase"] == "wave"]


async def test_a_drift_is_healed_by_who_is_known_and_refused_to_a_stranger(
    page: Page, seen: Seeing, token: str, cluster: Cluster, topology_meshery: Meshery
) -> None:
    metadata = {
        "name": "moved",
        "namespace": SPACE,
        "annotations": {"meshbus.io/drift": "report"},
    }
    body = json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"colour": "green"}}
    )
    await topology_meshery.run("custom", body=body)
    await page.goto(f"{seen.url}/drift")
    patch = json.dumps({"data": {"colour": "red"}})
    where = ("configmap", "moved", "-n", SPACE)
    await asyncio.to_thread(cluster.kubectl, "patch", *where, "--type=merge", f"--patch={patch}")
    group = page.locator(".group").filter(has_text="moved")
    await expect(group).to_contain_text("data.colour")
    await expect(group).to_contain_text("kubectl-patch")
    heal = group.get_by_role("button", name="Heal")
    dialog = page.get_by_role("dialog")
    await heal.click()
    await expect(dialog).to_contain_text("say who you are")
    await page.fill("#token", "meshbus_guessed")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("not accepted")
    # Nor past the page: the same question without a token.
    assert await page.evaluate(_HEAL) == 401
    await page.fill("#token", ANN)
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog).to_have_count(0)
    await heal.click()
    await expect(dialog).to_contain_text(f"As {IDENTITY}")
    await dialog.get_by_role("button", name="Heal").click()
    await expect(group).to_have_count(0)
    found = cluster.kubectl("get", *where, "-o", "jsonpath={.data.colour}")
    assert found == "green"
    await _audited(seen, "mesh.topology.heal", service="topology")
    await topology_meshery.run("custom", body=body, delete=True)


async def _audited(seen: Seeing, call: str, *, service: str) -> None:
    async def is_there() -> bool:
        return any(
            (entry.service, entry.identity, entry.call) == (service, IDENTITY, call)
            for entry in await audit_entries(seen.stack)
        )

    await eventually(is_there, what=f"{call} by {IDENTITY} in the audit")


async def test_a_rollout_is_paused_resumed_and_brought_back(
    page: Page, seen: Seeing, cluster: Cluster, topology_meshery: Meshery
) -> None:
    rollout = {
        "apiVersion": "meshbus.io/v1",
        "kind": "RolloutOptions",
        "spec": {"what": "manifest", "soakSeconds": 3600, "gate": {"windowSeconds": 5}},
    }
    body = "---\n".join(f"{json.dumps(one)}\n" for one in (rollout, json.loads(config_map("goes"))))
    operation = await topology_meshery.apply("istio-rollout", body=body)
    await page.goto(f"{seen.url}/operations/{operation}#token={ANN}")
    place = page.locator(".steering")
    await expect(place).to_contain_text("soak")
    dialog = page.get_by_role("dialog")

    async def steer(button: str) -> None:
        await place.get_by_role("button", name=button, exact=True).click()
        await expect(dialog).to_contain_text(f"As {IDENTITY}")
        await dialog.get_by_role("button", name=button, exact=True).click()
        await expect(dialog).to_have_count(0)

    await steer("Pause")
    await expect(place.get_by_role("heading")).to_contain_text("paused")
    await steer("Resume")
    await expect(place.get_by_role("heading")).to_contain_text("running")
    assert "goes" in cluster.kubectl("get", "configmap", "-n", SPACE, "-o", "name")
    await steer("Roll back all")
    await expect(place.get_by_role("heading")).to_contain_text("stopped")
    await expect(place).to_contain_text("rolled back")
    await expect(place.get_by_role("button")).to_have_count(0)
    assert "goes" not in cluster.kubectl("get", "configmap", "-n", SPACE, "-o", "name")
    for call in ("rolloutpause", "rolloutresume", "rolloutback"):
        await _audited(seen, f"mesh.lifecycle.{call}", service="lifecycle")


async def test_a_tab_goes_on_after_the_network_was_away(
    page: Page, seen: Seeing, topology_meshery: Meshery
) -> None:
    with FaultProxy(urlsplit(seen.url).port or 0) as network:
        await page.goto(f"http://{network.address}/operations")
        await expect(page.locator("#connection")).to_have_text("live")
        await expect(page.locator("h1")).to_have_text("Operations")
        await page.evaluate("() => { window.sameness = true; }")
        network.refuse()
        network.cut()
        await expect(page.locator(".stale")).to_be_visible()
        missed = await topology_meshery.apply("custom", body=config_map("unseen"))
        await topology_meshery.finals(missed)
        # A view that was not opened yet has no code here.
        await page.get_by_role("navigation").get_by_role("link", name="Drift").click()
        await expect(page.get_by_role("alert")).to_contain_text("does not answer")
        network.heal()
        await expect(page.locator("h1")).to_have_text("Drift")
        await page.get_by_role("navigation").get_by_role("link", name="Operations").click()
        row = page.locator("table.rows tbody tr", has=page.locator(f'a[href$="{missed}"]'))
        await expect(row).to_contain_text("succeeded")
        await expect(page.locator(".stale")).to_have_count(0)
        assert await page.evaluate("() => window.sameness === true")
        await topology_meshery.run("custom", body=config_map("unseen"), delete=True)
        await page.goto("about:blank")
