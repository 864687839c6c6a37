"""What a browser's tab holds after a long time: `python -m tests.bench.long_tab [MINUTES] [NODES]`.

A graph of so many nodes stands open in Chromium, and fifty changes a second come by the console's
own stream: of traffic, of health, and of workloads that come and go under new names, as jobs do.
Each minute, after a collection of garbage, what is left is told. Flat is what does not grow from
minute to minute; the first ones fill caches that have an end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

from playwright.async_api import CDPSession, async_playwright

from services.topology.feed.deltas import View, part_of
from tests.real.topology.samples import large, node
from tests.real.topology.serving import Server
from tests.testbed import packages

_PER_S = 50
_EVERY_S = 60.0
_MEGABYTE = 1_000_000
_NODES, _EDGES = (part_of(View.VERSIONED_APP, of) for of in ("nodes", "edges"))


async def _change(server: Server, seconds: float, number: int) -> int:
    """Changes for so long; returns the number of the next one."""
    view = server.views.clusters["c1"]
    nodes, edges = list(view.items(_NODES)), list(view.items(_EDGES))
    began = time.monotonic()
    last = number + int(seconds * _PER_S)
    for step in range(number, last):
        item = json.loads(view.items(_EDGES)[edges[step * 7 % len(edges)]])
        item["traffic"]["rates"] = {"http": f"{100 + step}.00", "httpPercentErr": "0.5"}
        told = json.loads(view.items(_NODES)[nodes[step * 13 % len(nodes)]])
        told["healthData"] = {"status": ("Degraded", "Healthy")[step % 2]}
        comes, goes = node(f"job-{step}", "jobs"), node(f"job-{step - 20}", "jobs")
        passing = {comes["id"]: comes} | ({goes["id"]: None} if step >= number + 20 else {})
        server.change({_EDGES: {item["id"]: item}, _NODES: {told["id"]: told, **passing}})
        # What is kept of the past is the test server's own.
        server.past.told.clear()
        due = began + (step - number + 1) / _PER_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    gone = {node(f"job-{step}", "jobs")["id"]: None for step in range(last - 20, last)}
    server.change({_NODES: gone})
    return last


async def _told(page: CDPSession, began: float) -> None:
    await page.send("HeapProfiler.collectGarbage")
    told = (await page.send("Performance.getMetrics"))["metrics"]
    found = {metric["name"]: metric["value"] for metric in told}
    megabytes = found["JSHeapUsedSize"] / _MEGABYTE
    print(
        f"{(time.monotonic() - began) / 60:5.1f} min: heap {megabytes:.1f} MB, "
        f"{found['Nodes']:.0f} DOM nodes, {found['JSEventListeners']:.0f} listeners, "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


async def _measure(minutes: int, nodes: int) -> None:
    server = Server()
    await server.start()
    server.begin(large(nodes, 2 * nodes))
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=packages.program("chromium"), args=["--no-sandbox"]
            )
            page = await browser.new_page(viewport={"width": 1280, "height": 800})
            await page.goto(f"{server.url}/graph")
            drawn = "wanted => window.meshbus?.graph.cy.nodes('[!box]').length === wanted"
            await page.wait_for_function(drawn, arg=nodes)
            session = await page.context.new_cdp_session(page)
            await session.send("Performance.enable")
            began, number = time.monotonic(), 0
            await _told(session, began)
            for _ in range(minutes):
                number = await _change(server, _EVERY_S, number)
                await _told(session, began)
            await browser.close()
    finally:
        await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=int, nargs="?", default=60)
    parser.add_argument("nodes", type=int, nargs="?", default=300)
    chosen = parser.parse_args()
    asyncio.run(_measure(chosen.minutes, chosen.nodes))
