"""`make demo`: a real cluster, NATS and the services; Istio installed, used, upgraded and removed.

Everything goes through the gateway's gRPC as Meshery would send it, and the events are printed as
they stream. Any failure ends it with exit code 1 and says what failed. `KEEP=1` leaves all up.

Where the machine can have a real node, pods run and requests go through their sidecars; the upgrade
from an older version then has a cluster of its own with simulated nodes, because of that version
there is no image. Elsewhere, and with `REAL=0`, one cluster with simulated nodes has it all.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from tests.system.demo.liveness import Page, show_drift, show_finding, show_graph, show_traffic
from tests.system.demo.sidecars import COUNTING, VISITOR, VISITS_PER_S, MeshedShop
from tests.system.demo.traffic import REQUESTS, Shopfront
from tests.testbed.building import BuildError, build_all, build_nodes
from tests.testbed.clusters import Cluster, start_side_by_side
from tests.testbed.meshery import Meshery, Received
from tests.testbed.nodes import NETWORK
from tests.testbed.obstacles import obstacle
from tests.testbed.packages import PackageMissing
from tests.testbed.processes import BedError
from tests.testbed.realclusters import RealCluster
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import ROOT, Stack
from tests.testbed.tracing import Jaeger

NEWER, OLDER = "1.31.0", "1.30.3"
_NEWER_REVISION, _OLDER_REVISION = "1-31-0", "1-30-3"
_SHOP = "demo-shop"
_OF_REAL_NODES = {
    "MESHBUS_TOPOLOGY_TELEMETRY_EVERY": "2s",
    "MESHBUS_TOPOLOGY_TELEMETRY_WINDOW": "10s",
    "MESHBUS_PERF_TARGETS": NETWORK,
}
"""Traffic is on the graph soon, and load may be made against the node's gateway."""
_MARKS = {0: " ", 1: "!", 2: "✘"}


Shop: TypeAlias = Shopfront | MeshedShop


class DemoError(Exception):
    """A step of the demo did not do what it shows."""


@dataclass(slots=True)
class Show:
    """Runs steps, prints their events, keeps their times."""

    meshery: Meshery
    times: list[tuple[str, float]] = field(default_factory=list)
    last_operation: str = ""
    _began: float = 0.0

    async def step(self, title: str, name: str = "istio", **request: Any) -> Received:
        """One operation from the call to its final event."""
        print(f"\n▶ {title}", flush=True)
        self._began = time.monotonic()
        operation = await self.meshery.apply(name, **request)
        self.last_operation = operation
        final = (await self.meshery.finals(operation))[0]
        if final.failed:
            event = final.event
            raise DemoError(
                f"{title}: {event.summary}. {event.details} Cause: {event.probable_cause}. "
                f"Remedy: {event.suggested_remediation}"
            )
        self.times.append((title, final.at - self._began))
        return final

    def print_event(self, received: Received) -> None:
        event = received.event
        seconds = received.at - self._began
        print(f"  {seconds:7.3f} s {_MARKS[event.event_type]} {event.summary}", flush=True)
        is_report = event.summary.startswith("Translated")
        if event.event_type or received.is_final or is_report:
            print(f"              {event.details}", flush=True)


def options(revision: str, *, tags: str = "") -> str:
    """The body that names a revision and its tags."""
    lines = ["apiVersion: meshbus.io/v1", "kind: LifecycleOptions", "spec:"]
    lines.append(f"  revision: {revision}")
    if tags:
        lines.append(f"  tags: [{tags}]")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Clusters:
    """Where the demo plays."""

    main: Cluster
    upgraded: Cluster
    """The same one, or one with simulated nodes beside a real one."""

    @property
    def real(self) -> RealCluster | None:
        return self.main if isinstance(self.main, RealCluster) else None


async def perform(show: Show, clusters: Clusters, page: Page, folder: Path) -> None:
    """Install, route and uninstall, then the canary upgrade; clusters end as they began."""
    cluster = clusters.main
    before = await asyncio.to_thread(snapshot, cluster)
    body = COUNTING if clusters.real else ""
    await show.step(f"Install Istio {NEWER}, profile default", version=NEWER, body=body)
    await show.step("Install the same again (nothing to do)", version=NEWER, body=body)
    await asyncio.to_thread(cluster.kubectl, "create", "namespace", _SHOP)
    if clusters.real:
        await use_sidecars(show, clusters.real, page)
    else:
        await route_bookinfo(show, cluster, page)
        with Shopfront(folder / "shop", cluster=cluster, namespace=_SHOP) as shop:
            await split_traffic(show, shop)
            await test_twice(show, shop)
            await remove_split(show, shop)
    await asyncio.to_thread(cluster.kubectl, "delete", "namespace", _SHOP)
    await show.step("Uninstall", delete=True)
    await asyncio.to_thread(require_same, cluster, before, "after the uninstall")
    await upgrade(show, clusters)


async def use_sidecars(show: Show, cluster: RealCluster, page: Page) -> None:
    """The same with pods that run: their requests go from sidecar to sidecar."""
    await show.step("The namespace's pods get sidecars", "label-namespace", namespace=_SHOP)
    shop = MeshedShop(cluster, namespace=_SHOP)
    await asyncio.to_thread(shop.start)
    await route_bookinfo(show, cluster, page)
    await asyncio.to_thread(shop.wait_ready)
    await split_traffic(show, shop)
    caller, called = await asyncio.to_thread(shop.identities)
    print(f"  with mutual TLS: {caller} called {called}")
    await test_twice(show, shop)
    await asyncio.to_thread(show_traffic, page, VISITOR, least=0.9 * VISITS_PER_S)
    await remove_split(show, shop)


async def upgrade(show: Show, clusters: Clusters) -> None:
    """A canary from an older version, and its end."""
    cluster = clusters.upgraded
    where: dict[str, Any] = {"kubeconfigs": [cluster.kubeconfig_text]}
    if clusters.real:
        print("\nThe upgrade has a cluster with simulated nodes: it needs an image of each version")
    before = await asyncio.to_thread(snapshot, cluster)
    await show.step(
        f"Canary 1 of 4: Istio {OLDER} as revision {_OLDER_REVISION} with the tag prod",
        version=OLDER,
        body=options(_OLDER_REVISION, tags="default, prod"),
        **where,
    )
    await show.step(
        f"Canary 2 of 4: Istio {NEWER} beside it as revision {_NEWER_REVISION}",
        version=NEWER,
        body=options(_NEWER_REVISION),
        **where,
    )
    await show.step(
        "Canary 3 of 4: the tags move to the new revision",
        version=NEWER,
        body=options(_NEWER_REVISION, tags="default, prod"),
        **where,
    )
    await show.step(
        "Canary 4 of 4: the old revision goes", body=options(_OLDER_REVISION), delete=True, **where
    )
    await show.step("Uninstall the last revision", delete=True, **where)
    await asyncio.to_thread(require_same, cluster, before, "after the last uninstall")


async def route_bookinfo(show: Show, cluster: Cluster, page: Page) -> None:
    """The sample application on the live graph, an intent about its traffic, a finding, a drift."""
    await show.step("Bookinfo", "bookinfo", namespace=_SHOP)
    await asyncio.to_thread(show_graph, page, _SHOP)
    weights = "apiVersion: meshbus.io/v1\nkind: RoutingOptions\nspec: {weights: {v1: 80, v3: 20}}\n"
    await show.step(
        "Bookinfo's reviews: 80 % to v1, 20 % to v3",
        "bookinfo-route-weights",
        namespace=_SHOP,
        body=weights,
    )
    route = cluster.kubectl(
        *("get", "virtualservice", "reviews", "-n", _SHOP),
        *("-o", "jsonpath={range .spec.http[0].route[*]}{.destination.subset}={.weight} {end}"),
    )
    print(f"  the VirtualService reviews now says: {route.strip()}")
    print("\n▶ Somebody makes a mistake, and somebody changes what Meshbus applied", flush=True)
    await asyncio.to_thread(show_finding, page, cluster, _SHOP)
    await asyncio.to_thread(show_drift, page, cluster, _SHOP, "reviews")
    await show.step(
        "The routing goes", "bookinfo-route-weights", namespace=_SHOP, body=weights, delete=True
    )
    await show.step("Bookinfo goes", "bookinfo", namespace=_SHOP, delete=True)


async def split_traffic(show: Show, shop: Shop) -> None:
    """An SMI TrafficSplit, changed once, and what real requests make of it."""
    for first, second in ((75, 25), (25, 75)):
        await show.step(
            f"SMI TrafficSplit: {first} to {second}",
            "custom",
            namespace=_SHOP,
            body=shop.split(first, second),
        )

        def holds(found: Counter[str], heavier: bool = first > second) -> bool:
            v1, v2 = found["checkout-v1"], found["checkout-v2"]
            return min(v1, v2) > 0 and v1 + v2 == REQUESTS and (v1 > v2) == heavier

        shares = await asyncio.to_thread(shop.shares, holds)
        told = ", ".join(f"{name} {count}" for name, count in sorted(shares.items()))
        print(f"  {REQUESTS} requests through {shop.way}: {told}")


async def test_twice(show: Show, shop: Shop) -> None:
    """A short performance test through the gateway: the first run begins a baseline, the second
    one is compared with it."""
    body = await asyncio.to_thread(shop.performance_test)
    for number in ("first", "second"):
        await show.step(f"Performance test, {number} run", "performance-test", body=body)


async def remove_split(show: Show, shop: Shop) -> None:
    await show.step("The split goes", "custom", namespace=_SHOP, body=shop.split(1, 1), delete=True)


def require_same(cluster: Cluster, before: dict[str, str], when: str) -> None:
    after = snapshot(cluster)
    found = differences(before, after)
    if found:
        raise DemoError(f"the cluster is not as it was {when}: {'; '.join(found[:10])}")
    print(f"  every object of the cluster is as it was before ({len(after)} objects)")


def require_trace(jaeger: Jaeger) -> None:
    """One trace from the gRPC call to the writes; Jaeger gets it within moments."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        for trace in jaeger.traces(service="meshbus-gateway"):
            names = [span["operationName"] for span in trace["spans"]]
            writes = [name for name in names if name.startswith(("PATCH ", "DELETE "))]
            if any("ApplyOperation" in name for name in names) and writes:
                print(
                    f"\nTrace {trace['traceID']}: {len(names)} spans from ApplyOperation to "
                    f"{len(writes)} Kubernetes writes"
                )
                return
        time.sleep(0.3)
    raise DemoError("Jaeger has no trace that leads from ApplyOperation to a Kubernetes write")


def print_summary(show: Show) -> None:
    print("\nSummary")
    for title, seconds in show.times:
        print(f"  {seconds:6.2f} s  {title}")


def print_addresses(clusters: Clusters, stack: Stack, jaeger: Jaeger) -> None:
    print("\nKEEP=1: everything stays up until you press Ctrl-C.")
    print(f"  gateway      {stack.gateway_address} (gRPC, reflection)")
    print(f"  kubeconfig   {clusters.main.kubeconfig}")
    print(f"  NATS         {stack.nats.url}")
    print(f"  live graph   {stack.health_url('topology')}/")
    print(f"  Jaeger       {jaeger.query_url}/api/traces?service=meshbus-gateway")


async def play(clusters: Clusters, stack: Stack, jaeger: Jaeger, folder: Path) -> None:
    meshery = Meshery(stack.gateway_address, [clusters.main.kubeconfig_text])
    async with meshery.connected():
        show = Show(meshery)
        meshery.listeners.append(show.print_event)
        await perform(show, clusters, Page(stack), folder)
    require_trace(jaeger)
    print_summary(show)
    if os.environ.get("KEEP") == "1":
        print_addresses(clusters, stack, jaeger)
        await asyncio.Event().wait()


def has_real_node() -> bool:
    """Whether the demo's node is a real one, with all that it needs built; says so, and why not."""
    why = "REAL=0 asks for it" if os.environ.get("REAL") == "0" else obstacle()
    if not why:
        try:
            build_nodes()
        except PackageMissing as error:
            why = str(error)
    if why:
        print(f"Nodes are simulated ({why}): requests go through an Envoy beside the cluster.")
    else:
        print("The node is real: pods run, and requests go from sidecar to sidecar.")
    return not why


@contextmanager
def running(folder: Path, *, real: bool) -> Iterator[Clusters]:
    """The clusters for the block."""
    simulated = Cluster(folder / "cluster")
    wanted = [RealCluster(folder / "real"), simulated] if real else [simulated]
    start_side_by_side(wanted)
    with ExitStack() as exits:
        for cluster in wanted:
            exits.push(cluster.__exit__)
        yield Clusters(wanted[0], simulated)


def main() -> int:
    folder = ROOT / ".run" / f"demo-{os.getpid()}"
    began = time.monotonic()
    try:
        build_all()
        real = has_real_node()
        print("Starting Kubernetes, Jaeger, NATS and the services", flush=True)
        settings = {"MESHBUS_TOPOLOGY_DRIFT": "heal"} | (_OF_REAL_NODES if real else {})
        with (
            running(folder, real=real) as clusters,
            Jaeger(folder / "jaeger") as jaeger,
            Stack(
                folder / "stack",
                otlp_endpoint=jaeger.otlp_http_endpoint,
                settings=settings,
            ) as stack,
        ):
            asyncio.run(play(clusters, stack, jaeger, folder))
    except (DemoError, BedError, BuildError, TimeoutError, grpc.aio.AioRpcError) as error:
        text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        print(f"\ndemo failed: {text or type(error).__name__}", file=sys.stderr)
        print(f"the logs are in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
    _remove(folder)
    print(f"\nDone after {time.monotonic() - began:.0f} s: nothing is left running.")
    return 0


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
