"""The page's server for each test, and one browser for all of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Error, Page, async_playwright, expect

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.gateway.door import tokens
from services.topology.cluster.objects import Key
from tests.real.topology.pages import Page as Metrics
from tests.real.topology.samples import VIRTUAL_SERVICE, Shop
from tests.real.topology.serving import Server
from tests.testbed import loopback, packages
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.prometheus import Prometheus
from tests.testbed.proxies import FaultProxy
from tests.testbed.seeing import Seeing, seeing
from tests.testbed.stack import Stack


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A service that watches nothing yet."""
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def shop(server: Server) -> Server:
    """A service with the small mesh."""
    server.past.objects[Key(VIRTUAL_SERVICE, "shop", "cart")] = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"hosts": ["cart"]},
    }
    server.begin(Shop.parts())
    return server


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; its sandbox cannot be set up by root."""
    # On a busy machine a browser takes its time; who waits for an event does not mind.
    expect.set_options(timeout=60_000)
    arguments = ["--process-per-site", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=packages.program("chromium"), args=arguments
        )
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
async def tabs(browser: Browser) -> AsyncIterator[BrowserContext]:
    """One profile for all tabs. A tab with an empty page of the same site stays open, and others
    share its process: to start one for each was half of what the browser took."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    async with TestServer(web.Application(), host=loopback.HOST) as empty:
        await (await context.new_page()).goto(str(empty.make_url("/")))
        yield context
    await context.close()


@pytest.fixture
async def page(tabs: BrowserContext) -> AsyncIterator[Page]:
    """An empty tab, of a browser that remembers nothing of the test before; the test fails on any
    error that its page reports."""
    page = await tabs.new_page()
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if is_ours(message) else None)
    yield page
    with contextlib.suppress(Error):  # It may show no page of ours.
        await page.evaluate("() => localStorage.clear()")
    await page.close()
    await tabs.clear_cookies()
    assert problems == []


def is_ours(message: object) -> bool:
    """Whether a message of the console tells a fault of the page, not of the network."""
    kind, text = getattr(message, "type", ""), getattr(message, "text", "")
    return kind in ("error", "warning") and "Failed to load resource" not in text


# --- the whole service beside a cluster ----------------------------------------------------------

ANN, IDENTITY = "meshbus_" + "a" * 40, "ann"
"""Who may everything at the stack, by her token; Meshery is let in without one."""

QUICK = {
    "MESHBUS_ACK_WAIT": "5s",
    "MESHBUS_TOPOLOGY_TELEMETRY_EVERY": "1s",
    "MESHBUS_TOPOLOGY_TELEMETRY_WINDOW": "10s",
    "MESHBUS_TOPOLOGY_PROMETHEUS_TIMEOUT": "2s",
    "MESHBUS_TOPOLOGY_COMPLIANCE_EVERY": "1s",
}
"""A lease lives two ack waits, and takeovers are waited for."""


@pytest.fixture(scope="session")
def mesh_metrics() -> Iterator[Metrics]:
    """What the mesh's proxies would show to Prometheus."""
    shown = Metrics()
    yield shown
    shown.close()


@pytest.fixture(scope="session")
def mesh_prometheus(
    mesh_metrics: Metrics, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultProxy]:
    """A Prometheus that scrapes them, behind a proxy that can fail."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = {"proxies": [f"{loopback.HOST}:{mesh_metrics.port}"]}
    with (
        Prometheus(folder, targets) as running,
        FaultProxy(urlsplit(running.url).port or 0) as proxy,
    ):
        yield proxy


@pytest.fixture(scope="session")
def topology_stack(
    built: None, mesh_prometheus: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("topology")
    known = folder / "tokens.yaml"
    known.write_text(tokens.entry(IDENTITY, [], ANN))
    settings = {
        **QUICK,
        "MESHBUS_TOPOLOGY_PROMETHEUS": f"http://{mesh_prometheus.address}",
        "MESHBUS_GATEWAY_TOKENS": str(known),
        "MESHBUS_GATEWAY_ANONYMOUS": "true",
    }
    services = ("lifecycle", "translator", "topology", "gateway")
    with Stack(folder / "stack", services=services, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
async def topology_meshery(topology_stack: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    """A Meshery that has registered the shared cluster by a first operation."""
    meshery = Meshery(topology_stack.gateway_address, [cluster.kubeconfig_text])
    async with meshery.connected():
        await meshery.run("custom", body=config_map("registered"))
        await meshery.run("custom", body=config_map("registered"), delete=True)
        yield meshery


@pytest.fixture(scope="session")
def token(cluster: Cluster) -> str:
    """The shared cluster's token."""
    return parse_kubeconfig(cluster.kubeconfig_text).cluster


@pytest.fixture(scope="session")
async def seen(
    topology_stack: Stack, topology_meshery: Meshery, token: str
) -> AsyncIterator[Seeing]:
    """The topology service, which watches the shared cluster."""
    async with seeing(topology_stack) as found:
        await found.watched(token)
        yield found
