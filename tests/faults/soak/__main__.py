"""`make soak HOURS=2`: a steady load under seeded faults; writes docs/reference/soak.md.

`python -m tests.faults.soak --hours 0.05 --output soak.md` tries it. The status is 1 when something
did not hold; the same seed gives the same order of faults.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from services.chassis.bus.streams import call_api
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.faults.soak.faults import Faults
from tests.faults.soak.invariants import violations
from tests.faults.soak.load import CANARY, Load
from tests.faults.soak.report import Report
from tests.faults.soak.vitals import Vitals
from tests.testbed import building
from tests.testbed.backends import Backends
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.processes import Process
from tests.testbed.proxies import FaultProxy
from tests.testbed.stack import ROOT, SERVICES, Stack
from tests.testbed.stored import admin_bus

PAGE = ROOT / "docs" / "reference" / "soak.md"
_ACK_WAIT_S = 5.0
_LANES = 4
_QUIET_WITHIN_S = 180.0
_SAY_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a soak is told."""

    hours: float
    seed: int
    fault_every_s: float


async def soak(plan: Plan, folder: Path) -> Report:
    """Runs one in `folder`; everything that it started has ended when it returns."""
    with contextlib.ExitStack() as things:
        clusters = [
            things.enter_context(Cluster(folder / name, name=name)) for name in ("one", "two")
        ]
        stack = things.enter_context(
            Stack(folder / "stack", services=(), settings={"MESHBUS_ACK_WAIT": f"{_ACK_WAIT_S}s"})
        )
        proxy = things.enter_context(FaultProxy(stack.nats.port))
        target = things.enter_context(Backends()).add("target")
        steady = await asyncio.to_thread(_start, stack, proxy)
        kubeconfigs = [cluster.token_kubeconfig_text(account="soak") for cluster in clusters]
        configs = [parse_kubeconfig(text) for text in kubeconfigs]
        chance = random.Random(plan.seed)
        faults = Faults(
            stack=stack,
            proxy=proxy,
            clusters=tuple(config.cluster for config in configs),
            chance=random.Random(chance.random()),
            ack_wait_s=_ACK_WAIT_S,
        )
        meshery = Meshery(stack.gateway_address, kubeconfigs)
        load = Load(
            meshery=meshery,
            kubeconfigs=kubeconfigs,
            chance=random.Random(chance.random()),
            target=f"http://127.0.0.1:{target.port}/",
        )
        vitals = Vitals(steady)
        namespaces = await asyncio.to_thread(_namespaces, clusters)
        async with meshery.connected():
            await _under_load(plan, load, faults, vitals, namespaces)
            await _quiet(stack)
        found = await violations(
            stack,
            load.ledger,
            clusters={
                config.cluster: cluster.api
                for config, cluster in zip(configs, clusters, strict=True)
            },
            poisoned=faults.poisoned,
            secrets=[CANARY, *(secret for config in configs for secret in config.secrets)],
        )
        return Report(
            day=datetime.now(timezone.utc).date().isoformat(),
            hours=plan.hours,
            seed=plan.seed,
            cores=os.cpu_count() or 1,
            ledger=load.ledger,
            faults=faults.happened,
            growths=vitals.growths(),
            violations=found,
        )


def _start(stack: Stack, proxy: FaultProxy) -> list[Process]:
    """Two processes of each service but the gateway; returns those that nobody kills."""
    frail = {"MESHBUS_NATS_URL": f"nats://{proxy.address}"}
    for service in SERVICES:
        stack.add(service, name=f"{service}-steady")
        if service != "gateway":
            stack.add(service, name=f"{service}-frail", settings=frail)
    for name in list(stack.processes):
        stack.wait_ready(name)
    return [process for name, process in stack.processes.items() if name.endswith("-steady")]


def _namespaces(clusters: Sequence[Cluster]) -> list[str]:
    """One for each lane, in every cluster."""
    names = [f"soak-{lane}" for lane in range(_LANES)]
    for cluster in clusters:
        for name in names:
            cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": name}})
    return names


async def _under_load(
    plan: Plan, load: Load, faults: Faults, vitals: Vitals, namespaces: Sequence[str]
) -> None:
    """Everything at once, for the plan's time; then each lane ends its round."""
    over = load.is_ending
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(namespaces=namespaces))
        group.create_task(faults.run(every_s=plan.fault_every_s, until=over))
        group.create_task(vitals.run(over))
        group.create_task(_said(plan, load, faults))
        await asyncio.sleep(plan.hours * 3600)
        over.set()


async def _said(plan: Plan, load: Load, faults: Faults) -> None:
    """Progress for whoever waits."""
    began = time.monotonic()
    while not load.is_ending.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SAY_EVERY_S):
                await load.is_ending.wait()
        minutes = (time.monotonic() - began) / 60
        print(
            f"soak: {minutes:.0f} of {plan.hours * 60:.0f} min, "
            f"{len(load.ledger.accepted)} accepted, {sum(load.ledger.heard.values())} ended, "
            f"{sum(faults.happened.values())} faults",
            flush=True,
        )


async def _quiet(stack: Stack) -> None:
    """Until no command is left: the last faults leave work for another worker."""
    async with admin_bus(stack) as bus, asyncio.timeout(_QUIET_WITHIN_S):
        while (await call_api(bus.client, "STREAM.INFO.CMD", {}))["state"]["messages"]:
            await asyncio.sleep(1.0)


def main(arguments: Sequence[str]) -> int:
    """Returns the status for the shell."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0, help="how long the load lasts")
    parser.add_argument("--seed", type=int, default=1, help="gives the order of the faults")
    parser.add_argument(
        "--fault-every", type=float, default=30.0, help="seconds between faults, on average"
    )
    parser.add_argument("--output", type=Path, default=PAGE, help="where the report goes")
    chosen = parser.parse_args(arguments)
    building.build_all()
    folder = Path(tempfile.mkdtemp(prefix="meshbus-soak-"))
    plan = Plan(hours=chosen.hours, seed=chosen.seed, fault_every_s=chosen.fault_every)
    report = asyncio.run(soak(plan, folder))
    chosen.output.write_text(report.markdown())
    print(report.markdown())
    if report.violations:
        print(f"soak: what it left is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
