"""The gateway and the workers on three NATS servers: operations go on whichever server goes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.faults.leaders import LED, Plan, Traffic, each_restarted, leaders_killed, page
from tests.faults.soak.invariants import finals_of
from tests.testbed.bodies import config_map
from tests.testbed.busclusters import TrioStack
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.stored import admin_bus
from tests.testbed.waiting import eventually

LANES = 3
MORE = 6
"""Operations that are accepted after each server is gone."""


@pytest.fixture(scope="module")
def trio_stack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrioStack]:
    with TrioStack(tmp_path_factory.mktemp("stack-on-three")) as running:
        yield running


@dataclass(slots=True)
class Clients:
    """Some clients that ask for one operation after the other, until they are told to stop."""

    meshery: Meshery
    accepted: list[str] = field(default_factory=list)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(self._lane())

    async def more(self) -> None:
        wanted = len(self.accepted) + MORE
        await eventually(lambda: len(self.accepted) >= wanted, what="more to be accepted")

    async def _lane(self) -> None:
        while not self.is_over.is_set():
            body = config_map(f"t{secrets.token_hex(4)}")
            for delete in (False, True):
                operation = await self.meshery.accepted("custom", body=body, delete=delete)
                self.accepted.append(operation)
                [final] = await self.meshery.finals(operation)
                assert not final.failed, final.event


@pytest.mark.parametrize(
    "stream",
    [
        "CMD",
        pytest.param("EVT", marks=pytest.mark.full),
        pytest.param("KV_ops", marks=pytest.mark.full),
    ],
)
async def test_every_operation_ends_once_whichever_server_goes(
    stream: str, trio_stack: TrioStack, cluster: Cluster
) -> None:
    async with Meshery(
        trio_stack.gateway_address, [cluster.kubeconfig_text]
    ).connected() as meshery:
        clients = Clients(meshery)
        running = asyncio.create_task(clients.run())
        try:
            await clients.more()
            async with admin_bus(trio_stack) as bus:
                leader = await trio_stack.trio.leader(bus, stream)
            leader.kill()
            await clients.more()
            await asyncio.to_thread(leader.start)
            await clients.more()
        finally:
            clients.is_over.set()
            await running
    async with admin_bus(trio_stack) as bus:
        ends = await finals_of(bus)
    counts = {operation: count for (operation, _cluster), count in ends.items()}
    assert {counts[operation] for operation in clients.accepted} == {1}


@pytest.mark.full
async def test_operations_at_a_rate_end_once_under_kills_and_restarts(
    trio_stack: TrioStack, cluster: Cluster
) -> None:
    """What `make leaders` does at length."""
    plan = Plan(kills=len(LED), every_s=6.0, rate=6.0)
    async with Meshery(
        trio_stack.gateway_address, [cluster.kubeconfig_text]
    ).connected() as meshery:
        killed = Traffic(meshery=meshery, rate=plan.rate)
        restarted = Traffic(meshery=meshery, rate=plan.rate)
        findings = [
            await leaders_killed(trio_stack, killed, plan),
            await each_restarted(trio_stack, restarted),
        ]
    assert [finding.violations for finding in findings] == [[], []]
    assert all(finding.traffic.accepted for finding in findings)
    assert "**Violated" not in page(plan, findings)
