"""Makes the pictures of the docs: `make screenshots`, or
`python -m tests.real.topology.screenshots FOLDER [console|graph]`.

`console`: the views over a scene that is written down (`_scene`), with a clock that stands, so that
the same tree gives the same pictures. `graph`: a real cluster with Istio and Bookinfo, routes by
weight, a Prometheus with the samples that proxies would give, somebody who makes mistakes. kwok
runs no proxies, hence the samples; everything else is what a user has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright
from playwright.async_api import Page as BrowserPage

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages.events import Phase
from services.lifecycle.rollouts.records import Fate, RolloutPart, RolloutStep
from tests.real.topology.measured import settled
from tests.real.topology.pages import Page, edge
from tests.real.topology.samples import CLUSTER, Shop, described, event, info, parts, rollout
from tests.real.topology.serving import Server
from tests.real.topology.test_console import install
from tests.testbed import building, loopback, packages
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.prometheus import Prometheus
from tests.testbed.seeing import Follower, Seeing, seeing
from tests.testbed.stack import Stack

_SPACE = "bookshop"
_WEIGHTS = "apiVersion: meshbus.io/v1\nkind: RoutingOptions\nspec: {weights: {v1: 80, v3: 20}}\n"
_GATEWAY = ("istio-system", "istio-ingressgateway", "latest")
# Source and destination (namespace, app, version), requests a second, share of errors, time.
_Place = tuple[str, str, str]
_CALLS: tuple[tuple[_Place, _Place, int, int, float], ...] = (
    (_GATEWAY, (_SPACE, "productpage", "v1"), 40, 0, 24.0),
    ((_SPACE, "productpage", "v1"), (_SPACE, "details", "v1"), 40, 0, 4.0),
    ((_SPACE, "productpage", "v1"), (_SPACE, "reviews", "v1"), 32, 0, 9.0),
    ((_SPACE, "productpage", "v1"), (_SPACE, "reviews", "v3"), 8, 0, 18.0),
    ((_SPACE, "reviews", "v3"), (_SPACE, "ratings", "v1"), 8, 1, 11.0),
)
_STEADY = 38
"""Requests a second of the busiest edges once their window is full."""
_MISTAKES = (
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "ratings", "namespace": _SPACE},
        "spec": {
            "hosts": ["ratings"],
            "http": [
                {
                    "fault": {"abort": {"httpStatus": 503, "percentage": {"value": 10}}},
                    "timeout": "2s",
                    "route": [
                        {"destination": {"host": "ratings"}, "weight": 90},
                        {"destination": {"host": "ratings", "subset": "v2"}, "weight": 10},
                    ],
                }
            ],
        },
    },
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "details", "namespace": _SPACE},
        "spec": {
            "host": "details",
            "trafficPolicy": {
                "tls": {"mode": "DISABLE"},
                "connectionPool": {"tcp": {"maxConnections": 100}},
            },
        },
    },
)


def _labels(source: _Place, target: _Place) -> dict[str, str]:
    ends: dict[str, str] = {}
    for side, (space, app, version) in (("source", source), ("destination", target)):
        ends[f"{side}_workload_namespace"] = space
        ends[f"{side}_workload"] = app if version == "latest" else f"{app}-{version}"
        ends[f"{side}_canonical_service"] = app
        ends[f"{side}_canonical_revision"] = version
    space, app, _ = target
    return edge() | {
        **ends,
        "destination_service_namespace": space,
        "destination_service_name": app,
        "destination_service": f"{app}.{space}.svc.cluster.local",
    }


async def _serve_traffic(samples: Page) -> None:
    """A second's requests each second."""
    while True:
        for source, target, rate, errors, ms in _CALLS:
            labels = _labels(source, target)
            for reporter in ("source", "destination"):
                told = {"reporter": reporter, "policy": "mutual_tls", "ms": ms}
                samples.request(labels, times=rate - errors, **told)  # type: ignore[arg-type]
                if errors:
                    samples.request(labels, times=errors, code="503", **told)  # type: ignore[arg-type]
        await asyncio.sleep(1.0)


@contextlib.asynccontextmanager
async def _traffic(samples: Page) -> AsyncIterator[None]:
    serving = asyncio.create_task(_serve_traffic(samples), name="traffic")
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _build(meshery: Meshery, cluster: Cluster) -> None:
    """Istio, Bookinfo and its routes through Meshbus, then what other people do."""
    cluster.kubectl("create", "namespace", _SPACE)
    for name, request in (
        ("istio", {"version": "1.31.0"}),
        ("bookinfo", {"namespace": _SPACE}),
        ("bookinfo-route-weights", {"namespace": _SPACE, "body": _WEIGHTS}),
    ):
        done = await meshery.run(name, **request)
        if done.failed:
            raise SystemExit(f"{name}: {done.event.summary}: {done.event.details}")
    for mistake in _MISTAKES:
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(mistake))
    patch = [{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 55}]
    cluster.kubectl(
        *("patch", "virtualservice", "reviews", "-n", _SPACE),
        *("--type=json", f"--patch={json.dumps(patch)}"),
    )
    cluster.kubectl("scale", "deployment", "details-v1", "-n", _SPACE, "--replicas=2")


def _is_all_there(follower: Follower) -> bool:
    told = [e["traffic"]["rates"] for e in follower.edges.values() if e.get("traffic")]
    busy = [rates for rates in told if float(rates.get("http", 0)) > _STEADY]
    codes = {f["code"] for f in follower.findings.values()}
    return len(busy) >= 3 and "IST0101" in codes and len(follower.drift) >= 2


# --- the console ---------------------------------------------------------------------------------

_NOW = datetime(2026, 5, 1, 12, 1, tzinfo=timezone.utc)
_CONSOLE = (
    ("fleet", "/", False),
    ("rollout", "/operations/op-roll", False),
    ("drift", "/drift", False),
    ("performance", "/performance/r-1", True),
)


@contextlib.asynccontextmanager
async def _scene() -> AsyncIterator[Server]:
    """Two clusters, operations of which one has failed, a rollout, and runs."""
    server = Server()
    await server.start()
    try:
        planes = [{"revision": "1-30-2", "version": "1.30.2"}]
        told = {"state": "ok", "detail": "", "planes": planes, "proxies": {"synced": 9, "stale": 1}}
        server.begin(Shop.parts())
        server.change(parts([], about=info(controlPlane=told)))
        eu = info(cluster="c2", name="shop-eu", controlPlane=told | {"proxies": {"synced": 6}})
        server.begin(parts([Shop.web, Shop.cart2], about=eu), cluster="c2")
        pair = {"version": "1.30.2", "controlPlane": "1.30.2", "supported": True}
        old = {"version": "1.28.3", "controlPlane": "1.30.2", "supported": False}
        server.past.versions = {
            CLUSTER: {
                "controlPlanes": planes,
                "proxies": [pair | {"count": 8}, old | {"count": 2}],
            },
            "c2": {"controlPlanes": planes, "proxies": [pair | {"count": 6}]},
        }
        server.asked.perf = settled()
        install(server)
        _roll_out(server)
        yield server
    finally:
        await server.stop()


def _roll_out(server: Server) -> None:
    """Three clusters, of which the first has the new version and the second is being judged."""
    clusters = (
        RolloutPart(cluster=CLUSTER, name="kind-shop", fate=Fate.DONE, step=RolloutStep.END),
        RolloutPart(
            cluster="c2",
            name="shop-eu",
            step=RolloutStep.MOVE,
            is_changed=True,
            namespaces=["cart", "pay", "shop"],
        ),
        RolloutPart(cluster="c3", name="shop-us"),
    )
    asked = described(
        "op-roll", kind="istio-rollout", state="running", accepted="2026-05-01T11:00:00Z"
    )
    asked["request"]["clusters"] = [one.cluster for one in clusters]
    asked["request"]["cluster_names"] = {one.cluster: one.name for one in clusters}
    server.asked.operations.append(asked)
    server.asked.rollouts["op-roll"] = rollout("op-roll", *clusters, wave=1)
    told = (
        "Waits for its wave of the rollout of Istio 1.31.0",
        "Wave 1 of 3: prechecks",
        "prechecks: done",
        "the new revision comes up: done",
        "namespaces move: done",
    )
    for number, summary in enumerate(told, start=1):
        at = datetime(2026, 5, 1, 11, number, tzinfo=timezone.utc)
        server.tell(
            event(
                "op-roll",
                Phase.STARTED if number == 1 else Phase.NOTE,
                number,
                kind="istio-rollout",
                summary=summary,
                time=at,
            )
        )


async def _console(folder: Path) -> None:
    async with _scene() as server, _browser() as browser:
        for name, path, is_dark in _CONSOLE:
            async with _tab(browser, is_dark=is_dark) as page:
                await page.clock.set_fixed_time(_NOW)
                await page.goto(f"{server.url}{path}")
                await page.locator("#connection[data-state=live]").wait_for()
                await page.locator("h1").wait_for()
                await page.locator("[aria-busy]").wait_for(state="detached")
                await page.screenshot(path=folder / f"console-{name}.png")


@contextlib.asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=packages.program("chromium"), args=["--no-sandbox"]
        )
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def _tab(browser: Browser, *, is_dark: bool) -> AsyncIterator[BrowserPage]:
    """The same size, language and time zone on every machine, and nothing that moves."""
    context = await browser.new_context(
        viewport={"width": 1180, "height": 700},
        color_scheme="dark" if is_dark else "light",
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    yield await context.new_page()
    await context.close()


# --- the graph -----------------------------------------------------------------------------------


async def _shoot(seen: Seeing, token: str, folder: Path) -> None:
    async with _browser() as browser:
        for name, is_dark, steps in (
            ("overview", False, _overview),
            ("details", True, _details),
            ("findings", False, _findings),
        ):
            async with _tab(browser, is_dark=is_dark) as page:
                await page.goto(f"{seen.url}/graph?cluster={token}")
                await page.wait_for_function(
                    "() => window.meshbus?.graph.cy.edges('[state = \"healthy\"]').length > 3"
                )
                await steps(page)
                await page.screenshot(path=folder / f"topology-{name}.png")


async def _overview(page: BrowserPage) -> None:
    """What one sees first."""


async def _details(page: BrowserPage) -> None:
    await _choose(page, service="reviews")
    await page.locator("#details summary", has_text="VirtualService").click()
    await page.locator("#details pre", has_text="weight").wait_for()


async def _findings(page: BrowserPage) -> None:
    await page.click("#tab-findings")


async def _choose(page: BrowserPage, **fields: str) -> None:
    """Clicks the node that has these fields."""
    place: dict[str, Any] = await page.evaluate(
        """fields => {
          const { graph, live } = window.meshbus;
          const node = [...live.nodes.values()].find((one) => one.nodeType === "service"
            && Object.entries(fields).every(([name, value]) => one[name] === value));
          return graph.cy.getElementById(node.id).renderedPosition();
        }""",
        fields,
    )
    box = await page.locator("#graph").bounding_box()
    assert box is not None
    await page.mouse.click(box["x"] + place["x"], box["y"] + place["y"])


async def _make(folder: Path, cluster: Cluster, stack: Stack, samples: Page) -> None:
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    meshery = Meshery(stack.gateway_address, [cluster.kubeconfig_text])
    async with meshery.connected(), _traffic(samples), seeing(stack) as seen:
        await _build(meshery, cluster)
        await seen.watched(token)
        async with seen.following(token) as follower:
            await follower.until(_is_all_there, within_s=90.0)
        await _shoot(seen, token, folder)


def main(folder: Path, what: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if what in ("", "console"):
        asyncio.run(_console(folder))
    if what in ("", "graph"):
        _graph(folder)


def _graph(folder: Path) -> None:
    building.build_all()
    samples = Page()
    with (
        contextlib.closing(samples),
        tempfile.TemporaryDirectory() as work,
        Prometheus(
            Path(work) / "prometheus", {"mesh": [f"{loopback.HOST}:{samples.port}"]}
        ) as prometheus,
        Cluster(Path(work) / "cluster") as cluster,
        Stack(
            Path(work) / "stack",
            settings={
                "MESHBUS_TOPOLOGY_PROMETHEUS": prometheus.url,
                "MESHBUS_TOPOLOGY_TELEMETRY_EVERY": "2s",
                "MESHBUS_TOPOLOGY_TELEMETRY_WINDOW": "20s",
            },
        ) as stack,
    ):
        asyncio.run(_make(folder, cluster, stack, samples))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
