"""`make bench`: runs every pair in turns and writes docs/reference/benchmarks.md, and
docs/reference/performance-tests.md for the load tests, docs/reference/live-graph.md for topology,
docs/reference/fleet.md for many clusters on several replicas.

`--repeats 5` is the least that a published page may stand on. `--scale short` measures everything
once and `--scale smoke` only shows that it can be measured; then `--output` names another folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.chassis.bus import streams
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.streams import call_api
from tests.bench import bursts, fleets, loads, topologies, translations
from tests.bench.bursts import Burst
from tests.bench.measuring import (
    Latency,
    Memory,
    Pair,
    circumstances,
    cpu_seconds,
    peak_memory_mib,
    spread,
)
from tests.bench.scales import SHORT, SMOKE, Scale, published
from tests.testbed.bodies import PURGE
from tests.testbed.building import distributions_folder
from tests.testbed.clusters import Cluster, kubectl_path
from tests.testbed.generations import Generation, GenerationClient
from tests.testbed.meshery import Meshery, Received
from tests.testbed.recipe import ISTIO_VERSION, KUBERNETES_VERSION
from tests.testbed.stack import ROOT, SERVICES, Stack
from tests.testbed.stored import admin_bus

PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
LOADS_PAGE = PAGE.with_name("performance-tests.md")
TOPOLOGY_PAGE = PAGE.with_name("live-graph.md")
FLEET_PAGE = PAGE.with_name("fleet.md")
_VIRTUAL_SERVICES = 10
_AT_ONCE = 100
"""Events that a worker has under way."""
_CALLERS = 16
_START_S = 0.5

Timed = Callable[[], Awaitable[float]]


@dataclass(slots=True)
class Bench:
    """One run on one bed."""

    cluster: Cluster
    stack: Stack
    meshery: Meshery
    scale: Scale
    folder: Path
    pairs: list[Pair] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    throughputs: list[translations.Throughput] = field(default_factory=list)
    events_per_s: float = 0.0
    started: dict[str, list[float]] = field(default_factory=dict)
    """Of each service, processor seconds."""

    async def run(self) -> None:
        await self.installs()
        await self.manifests()
        await self.accepted()
        await self.streamed()
        await self.memory()
        await self.translations()
        await self.starts()

    async def installs(self) -> None:
        """Fresh with a cold worker, fresh with a warm one, and again on what is there."""
        cold, warm, again = [], [], []
        their_fresh, their_again = [], []
        for turn in range(self.scale.turns):
            say(f"install, turn {turn + 1} of {self.scale.turns}")
            await self.restart("lifecycle")
            cold.append(await self.install())
            await self.clean()
            their_fresh.append(await self.istioctl_install())
            their_again.append(await self.istioctl_install())
            await self.clean()
            warm.append(await self.install())
            again.append(await self.install())
            await self.clean()
        theirs = "istioctl install -y"
        self.pairs += [
            Pair(
                name="Install, default profile, fresh cluster",
                ours=warm,
                theirs=their_fresh,
                their_name=theirs,
                bar=0.3,
            ),
            Pair(
                name="The same with a worker that was just started",
                ours=cold,
                theirs=their_fresh,
                their_name=theirs,
                bar=0.5,
            ),
            Pair(
                name="Install, already installed",
                ours=again,
                theirs=their_again,
                their_name=theirs,
                bar=0.05,
            ),
        ]

    async def manifests(self) -> None:
        """Ten VirtualServices that are not there yet."""
        await self.install()
        ours, theirs = [], []
        for turn in range(self.scale.quick_turns):
            say(f"manifest, turn {turn + 1}")
            text = virtual_services(f"ours-{turn}")
            began = time.monotonic()
            final = await self.meshery.run("custom", body=text)
            assert not final.failed, final.event
            ours.append(final.at - began)
            file = self.folder / "theirs.yaml"
            file.write_text(virtual_services(f"theirs-{turn}"))
            theirs.append(await self.command(kubectl_path(), "apply", "--server-side", "-f", file))
        self.pairs.append(
            Pair(
                name=f"{_VIRTUAL_SERVICES} VirtualServices in one manifest",
                ours=ours,
                theirs=theirs,
                their_name="kubectl apply --server-side",
                bar=0.08,
            )
        )
        await self.clean()

    async def accepted(self) -> None:
        """From the call to its answer, one call at a time, each operation carried out.

        Once with the operation before wholly ended and acknowledged, and once
        right after its last event, while NATS and both services still write that end down;
        beside the cheapest call of the same client, and many calls at once beside one.
        """
        say("ApplyOperation accepted")
        at_rest, at_once, cheapest, many = [], [], [], []
        async with admin_bus(self.stack) as bus:
            for number in range(self.scale.samples):
                await settled(bus)
                at_rest.append(await self.accept(2 * number))
                at_once.append(await self.accept(2 * number + 1))
                began = time.monotonic()
                await self.meshery.client.call("MeshName")
                cheapest.append(time.monotonic() - began)
            for number in range(self.scale.quick_turns * 4):
                await settled(bus)
                many.append(await self.accept(number, calls=_CALLERS))
        self.latencies += [
            Latency(
                name="ApplyOperation accepted", samples=at_rest, bar_p50_ms=2.5, bar_p99_ms=10.0
            ),
            Latency(
                name="The same, right after another operation's last event",
                samples=at_once,
                bar_p50_ms=2.5,
                bar_p99_ms=10.0,
            ),
        ]
        self.pairs += [
            Pair(
                name="ApplyOperation accepted, by the cheapest call of the same client",
                ours=at_rest,
                theirs=cheapest,
                their_name="MeshName",
                bar=2.0,
            ),
            Pair(
                name=f"{_CALLERS} ApplyOperations at once, until all are accepted",
                ours=many,
                theirs=at_rest,
                their_name="one of them",
                bar=5.0,
            ),
        ]

    async def accept(self, number: int, *, calls: int = 1) -> float:
        """Seconds until so many small operations are accepted; returns after their last events."""
        operations = [str(uuid.uuid4()) for _ in range(calls)]
        began = time.monotonic()
        await asyncio.gather(
            *(
                self.meshery.apply("custom", body=_object(which, number), operation=operation)
                for which, operation in enumerate(operations)
            )
        )
        seconds = time.monotonic() - began
        for operation in operations:
            await self.meshery.finals(operation)
        return seconds

    async def starts(self) -> None:
        """Processor seconds of each service from its start until it is ready."""
        say("starts")
        for service in SERVICES:
            used = []
            for _ in range(self.scale.quick_turns):
                await self.restart(service)
                used.append(cpu_seconds(self.stack.processes[service].pid))
            self.started[service] = used

    async def turns(self, work: str, count: int) -> None:
        """Does one of the works of `make profile` so often, one after the other."""
        if work == "accept":
            for number in range(count):
                await self.accept(number)
        elif work == "events":
            await self.many_events(count)
        elif work == "install":
            for _ in range(count):
                await self.install()
                await self.clean()
        else:
            await self.install()
            async with GenerationClient(Generation.F, self.stack.gateway_address) as client:
                text = self.cluster.kubeconfig_text
                for number in range(count):
                    await translations.process_oam(client, text, "profile", revision=number)

    async def streamed(self) -> None:
        """From a worker's publish to the client's read, NATS' acknowledged write included."""
        say("event to client")
        samples = []
        async with self.publishing() as publisher:
            for number in range(self.scale.samples):
                event = bursts.event(f"bench-{uuid.uuid4()}", number)
                began = time.monotonic()
                await publisher.event(event)
                await self.meshery.until(
                    lambda e=event: bool(self.meshery.of(e.operation))  # type: ignore[misc]
                )
                samples.append(self.meshery.of(event.operation)[0].at - began)
        burst = self.scale.samples * _AT_ONCE // 10
        self.events_per_s = burst / await self.many_events(burst)
        self.latencies.append(
            Latency(name="Progress event, worker to client", samples=samples, bar_p50_ms=4.0)
        )

    async def many_events(self, count: int) -> float:
        """Events of many operations as fast as a worker stores them; seconds from the first of
        them to the client's last."""
        operations = [f"bench-{uuid.uuid4()}" for _ in range(_AT_ONCE)]
        left = count
        done = asyncio.Event()

        def came(received: Received) -> None:
            nonlocal left
            if received.event.operation_id in wanted:
                left -= 1
            if left <= 0:
                done.set()

        wanted = frozenset(operations)
        burst = Burst(self.stack.settings("lifecycle"), operations, count)
        await burst.ready()
        self.meshery.listeners.append(came)
        began = time.monotonic()
        burst.begin()
        await done.wait()
        took_s = time.monotonic() - began
        self.meshery.listeners.remove(came)
        await burst.end()
        return took_s

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[Publisher]:
        """As a worker publishes."""
        bus = await connect(self.stack.settings("lifecycle"), service="lifecycle")
        try:
            yield Publisher(bus)
        finally:
            await bus.close()

    async def memory(self) -> None:
        """The gateway with a hundred streams, the worker over an install."""
        say("memory")
        async with AsyncExitStack() as streams:
            clients = []
            for _ in range(self.scale.streams):
                client = Meshery(self.stack.gateway_address, self.meshery.kubeconfigs)
                clients.append(await streams.enter_async_context(client.connected()))
            await self.install()
            for client in clients:
                await client.until(lambda c=client: any(r.is_final for r in c.events))  # type: ignore[misc]
            gateway = peak_memory_mib(self.stack.processes["gateway"].pid)
            lifecycle = peak_memory_mib(self.stack.processes["lifecycle"].pid)
        self.memories += [
            Memory(
                name=f"gateway, peak, {self.scale.streams} open streams",
                peak_mib=gateway,
                bar_mib=120,
            ),
            Memory(name="lifecycle, peak, during installs", peak_mib=lifecycle, bar_mib=200),
        ]
        await self.clean()

    async def translations(self) -> None:
        """The translator alone, one component through everything, and a large design."""
        say("translations")
        self.throughputs.append(await translations.throughput(self.scale.quick_turns))
        await self.install()
        ours, theirs = [], []
        kubeconfig = self.cluster.kubeconfig_text
        async with GenerationClient(Generation.F, self.stack.gateway_address) as client:
            for turn in range(self.scale.quick_turns * 4):
                ours.append(
                    await translations.process_oam(client, kubeconfig, "ours", revision=turn)
                )
                theirs.append(await self.kubectl_apply(turn))
        self.pairs.append(
            Pair(
                name="ProcessOAM of one VirtualService, from the call to its answer",
                ours=ours,
                theirs=theirs,
                their_name="kubectl apply --server-side",
                bar=0.15,
            )
        )
        await self.clean()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.translations", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        peak = json.loads(output)
        self.memories += [
            Memory(
                name="translator, peak over all of the above",
                peak_mib=peak_memory_mib(self.stack.processes["translator"].pid),
            ),
            Memory(
                name="reading and translating a design of 5 MB, beyond the bare process",
                peak_mib=peak["after"] - peak["before"],
            ),
        ]

    async def kubectl_apply(self, turn: int) -> float:
        """The same change of the same object, with a name of its own."""
        file = self.folder / "theirs.json"
        file.write_text(json.dumps(translations.virtual_service("theirs", revision=turn)))
        return await self.command(kubectl_path(), "apply", "--server-side", "-f", file)

    async def install(self) -> float:
        """Seconds from the call to the final event."""
        began = time.monotonic()
        final = await self.meshery.run("istio", version=ISTIO_VERSION)
        assert not final.failed, final.event
        return final.at - began

    async def istioctl_install(self) -> float:
        istioctl = distributions_folder() / ISTIO_VERSION / "bin" / "istioctl"
        return await self.command(istioctl, "install", "-y")

    async def clean(self) -> None:
        """Nothing of Istio is left, whoever installed it."""
        if not self.scale.cleans:
            return
        final = await self.meshery.run("istio", delete=True, body=PURGE)
        assert not final.failed, final.event
        await self.command(
            kubectl_path(), "delete", "namespace", "istio-system", "--ignore-not-found", "--wait"
        )

    async def restart(self, service: str) -> None:
        """Returns when it is ready."""
        self.stack.processes[service].stop()
        self.stack.processes[service].start()
        await asyncio.to_thread(self.stack.wait_ready, service)

    async def command(self, *parts: str | Path) -> float:
        """Seconds that a command takes; its failure ends the run."""
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(str(part) for part in parts),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaint = await process.communicate()
        seconds = time.monotonic() - began
        if process.returncode != 0:
            raise RuntimeError(f"{parts[0]} failed: {complaint.decode()[-500:]}")
        return seconds

    def page(self) -> str:
        """The page as it is published."""
        conditions = (
            f"{circumstances()}, Kubernetes {KUBERNETES_VERSION} with fake nodes, "
            f"Istio {ISTIO_VERSION}; {self.scale.turns} repeats in turns, medians (lowest to "
            "highest)."
        )
        lines = [
            "# Benchmarks",
            "",
            "<!-- Written by `make bench`; do not edit. -->",
            "",
            conditions,
            "",
            "| work | Meshbus | the other | ratio | bar | |",
            "|---|---|---|---|---|---|",
            *(pair.row() for pair in self.pairs),
            "",
            "| latency | p50 | p99 | samples | bar | |",
            "|---|---|---|---|---|---|",
            *(latency.row() for latency in self.latencies),
            "",
            f"A burst of events, from the worker to one client: {self.events_per_s:.0f} events/s.",
            "",
            "| memory | | bar | |",
            "|---|---|---|---|",
            *(memory.row() for memory in self.memories),
            "",
            f"| from its start until a service is ready | processor, the bar is {_START_S} s |",
            "|---|---|",
            *(f"| {name} | {spread(used)} |" for name, used in self.started.items()),
            "",
            "| throughput of one process | | whole | of it reading YAML |",
            "|---|---|---|---|",
            *(throughput.row() for throughput in self.throughputs),
            "",
            METHOD,
            "",
        ]
        return "\n".join(lines)


def figures_page(title: str, figures: Sequence[loads.Figure], method: str) -> str:
    """A page of single figures."""
    lines = [
        f"# {title}",
        "",
        "<!-- Written by `make bench`; do not edit. -->",
        "",
        f"{circumstances()}.",
        "",
        "| figure | | bar | |",
        "|---|---|---|---|",
        *(figure.row() for figure in figures),
        "",
        method,
        "",
    ]
    return "\n".join(lines)


METHOD = (
    "Times of Meshbus run from the gRPC call to the final event on the stream, with NATS writing "
    "each message to the disk before it answers (`sync_interval: always`). The other tools' times "
    "are whole processes, as a person would wait for them."
)


def virtual_services(prefix: str) -> str:
    """A manifest of small VirtualServices with names of their own."""
    template = (
        "apiVersion: networking.istio.io/v1\n"
        "kind: VirtualService\n"
        "metadata: {{name: {name}, namespace: default}}\n"
        "spec:\n"
        "  hosts: [{name}]\n"
        "  http:\n"
        "  - route:\n"
        "    - destination: {{host: {name}}}\n"
    )
    names = [f"{prefix}-{number}" for number in range(_VIRTUAL_SERVICES)]
    return "---\n".join(template.format(name=name) for name in names)


def _object(which: int, number: int) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"bench-{which}"},
            "data": {"number": str(number)},
        }
    )


async def settled(bus: Bus) -> None:
    """Until no command waits or runs."""
    while True:
        busy = 0
        for service in streams.WORKER_FILTERS:
            consumer = await call_api(bus.client, f"CONSUMER.INFO.CMD.{service}", {})
            busy += consumer["num_pending"] + consumer["num_ack_pending"]
        if busy == 0:
            return


_SCALES = {"short": SHORT, "smoke": SMOKE}


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


async def measure(cluster: Cluster, stack: Stack, scale: Scale, folder: Path) -> str:
    meshery = Meshery(stack.gateway_address, [cluster.kubeconfig_text])
    async with meshery.connected():
        bench = Bench(cluster, stack, meshery, scale, folder)
        await bench.run()
        return bench.page()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each pair (default 5)")
    parser.add_argument(
        "--scale", choices=("published", *_SCALES), default="published", help="how much is measured"
    )
    parser.add_argument("--output", type=Path, default=PAGE.parent, help="the pages' folder")
    parser.add_argument(
        "--part",
        choices=("operations", "loads", "topology", "fleet"),
        help="one of the pages; all by default",
    )
    arguments = parser.parse_args()
    folder = ROOT / ".run" / f"bench-{os.getpid()}"
    pages: dict[str, str] = {}
    scale = _SCALES.get(arguments.scale) or published(arguments.repeats)
    if arguments.part in (None, "operations"):
        # As where versions are fetched; the folder of the distributions is everybody's here.
        own = {"MESHBUS_LIFECYCLE_RENDERED": str(folder / "rendered")}
        with (
            Cluster(folder / "cluster") as cluster,
            Stack(folder / "stack", settings=own) as stack,
        ):
            pages[PAGE.name] = asyncio.run(measure(cluster, stack, scale, folder))
    if arguments.part in (None, "loads"):
        figures = loads.figures(folder / "loads", scale=scale)
        pages[LOADS_PAGE.name] = figures_page(
            "Performance tests, measured", asyncio.run(figures), loads.METHOD
        )
    if arguments.part in (None, "topology"):
        figures = topologies.figures(folder / "topology", scale=scale)
        pages[TOPOLOGY_PAGE.name] = figures_page(
            "The live graph, measured", asyncio.run(figures), topologies.METHOD
        )
    if arguments.part in (None, "fleet"):
        figures = fleets.figures(folder / "fleet", scale=scale)
        pages[FLEET_PAGE.name] = figures_page(
            "Many clusters on three replicas, measured", asyncio.run(figures), fleets.METHOD
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        (arguments.output / name).write_text(page)
        print(page)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
