"""A thousand nodes in the browser: how long its frames take. Figures are printed; bounds are loose,
because the machine has no graphics card and other work."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from playwright.async_api import Page

from services.topology.feed.deltas import View, part_of
from tests.real.topology.samples import large
from tests.real.topology.serving import Server
from tests.real.topology.test_page import drawn

_NODES, _EDGES = 1_000, 2_000
_CHANGES_PER_S = 50
_FRAMES = """() => {
  window.frames_ms = [];
  window.measuring = true;
  let last = performance.now();
  const step = (now) => {
    window.frames_ms.push(now - last);
    last = now;
    if (window.measuring) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}"""


def _told(name: str, frames: list[float]) -> float:
    """Prints the figures; returns the median."""
    frames = sorted(frames[1:])
    median, p95 = frames[len(frames) // 2], frames[int(len(frames) * 0.95)]
    print(
        f"\n{name}: {len(frames)} frames, p50 {median:.0f} ms, p95 {p95:.0f} ms, "
        f"longest {frames[-1]:.0f} ms"
    )
    return median


async def _frames(page: Page) -> list[float]:
    await page.evaluate("() => { window.measuring = false; }")
    found: list[float] = await page.evaluate("() => window.frames_ms")
    return found


async def _pan(page: Page) -> None:
    box = await page.locator("#graph").bounding_box()
    assert box is not None
    x, y = box["x"] + 20, box["y"] + 20
    await page.mouse.move(x, y)
    await page.mouse.down()
    for step in range(40):
        await page.mouse.move(x + 6 * step, y + 4 * step)
    await page.mouse.up()


async def _change(server: Server, seconds: float) -> dict[str, Any]:
    """Fifty changes a second, each of the traffic of one edge and one node's health."""
    view = server.views.clusters["c1"]
    nodes, edges = (part_of(View.VERSIONED_APP, of) for of in ("nodes", "edges"))
    edge_ids, node_ids = list(view.items(edges)), list(view.items(nodes))
    start = time.monotonic()
    last: dict[str, Any] = {}
    for step in range(int(seconds * _CHANGES_PER_S)):
        changed = json.loads(view.items(edges)[edge_ids[step * 7 % _EDGES]])
        changed["traffic"]["rates"] = {"http": f"{100 + step}.00", "httpPercentErr": "0.5"}
        last = json.loads(view.items(nodes)[node_ids[step * 13 % _NODES]])
        last["healthData"] = {"status": ("Degraded", "Healthy")[step % 2]}
        server.change({edges: {changed["id"]: changed}, nodes: {last["id"]: last}})
        await asyncio.sleep(max(0.0, start + (step + 1) / _CHANGES_PER_S - time.monotonic()))
    return last


@pytest.mark.alone
async def test_a_thousand_nodes_stay_usable(page: Page, server: Server) -> None:
    server.begin(large(_NODES, _EDGES))
    started = time.monotonic()
    await page.goto(f"{server.url}/graph")
    await drawn(page, _NODES)
    loaded_s = time.monotonic() - started
    print(f"\nopened and drawn: {loaded_s:.2f} s")

    await page.evaluate(_FRAMES)
    await _pan(page)
    panning = _told("panning", await _frames(page))

    await page.evaluate(_FRAMES)
    last = await _change(server, 3.0)
    health = "degraded" if last["healthData"]["status"] == "Degraded" else "healthy"
    await page.wait_for_function(
        "([id, health]) => window.meshbus.graph.cy.getElementById(id).data('health') === health",
        arg=[last["id"], health],
    )
    changing = _told(f"{_CHANGES_PER_S} changes/s", await _frames(page))

    await page.evaluate(_FRAMES)
    changes = asyncio.create_task(_change(server, 3.0))
    while not changes.done():
        await _pan(page)
    await changes
    both = _told("panning under changes", await _frames(page))
    assert loaded_s < 15
    assert max(panning, changing, both) < 1_000
