"""Makes the pictures of docs/how-to/topology.md.

Start it with `python -m tests.real.topology.screenshots FOLDER`.

A real cluster with Istio and Bookinfo, routes by weight, a Prometheus with the samples that proxies
would give, somebody who makes mistakes, and the page in a browser. kwok runs no proxies, hence the
samples; everything else is what a user has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Page as BrowserPage
from playwright.async_api import async_playwright

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.real.topology.pages import Page, edge
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


async def _shoot(seen: Seeing, token: str, folder: Path) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=packages.program("chromium"), args=["--no-sandbox"]
        )
        for name, is_dark, steps in (
            ("overview", False, _overview),
            ("details", True, _details),
            ("findings", False, _findings),
        ):
            context = await browser.new_context(
                viewport={"width": 1280, "height": 800}, color_scheme="dark" if is_dark else "light"
            )
            page = await context.new_page()
            await page.goto(f"{seen.url}/?cluster={token}")
            await page.wait_for_function(
                "() => window.meshbus?.graph.cy.edges('[state = \"healthy\"]').length > 3"
            )
            await steps(page)
            await page.screenshot(path=folder / f"topology-{name}.png")
            await context.close()
        await browser.close()


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


def main(folder: Path) -> None:
    building.build_all()
    folder.mkdir(parents=True, exist_ok=True)
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
    main(Path(sys.argv[1]))
