"""An upgrade of Meshbus and the way back, step by step, with services of two versions at work.

The earlier version is its own code (`tests/testbed/earlier.py`), each service a process, on the
NATS configuration and the streams that it brought. Operations run, and commands wait, through each
step of `docs/how-to/upgrade.md`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.chassis.bus.streams import AUDITED, audit_stream, call_api
from services.chassis.messages import Phase
from tests.faults.conftest import ACK_WAIT_S
from tests.faults.recording import former_code
from tests.testbed import loopback
from tests.testbed.backends import Backends
from tests.testbed.bodies import config_map, no_pods_quota, options
from tests.testbed.building import distributions_folder
from tests.testbed.clusters import Cluster
from tests.testbed.earlier import Earlier
from tests.testbed.meshery import Meshery, without_istio
from tests.testbed.perfrigs import ENDED, rigged, smp
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count, stored_events
from tests.testbed.waiting import eventually

BOTH = ("earlier", pytest.param("this", marks=pytest.mark.full))
_MINIMAL = options(profile="minimal")

ORDER = ("lifecycle", "translator", "topology", "gateway")
"""Whoever takes work before whoever hands it out, as the how-to has it."""
READERS = ("topology", "gateway")
"""Services that read streams."""


@dataclass(slots=True)
class Mixed:
    """A stack in which each service is of this version or of an earlier one."""

    stack: Stack
    earlier: Earlier
    client: Meshery
    told: list[str]
    """Operations that were accepted."""

    async def start(self, service: str, *, of_earlier: bool, name: str = "") -> None:
        options = self._options(of_earlier)
        await asyncio.to_thread(self.stack.add, service, name=name, **options)
        await asyncio.to_thread(self.stack.wait_ready, name or service)

    async def replace(self, service: str, *, of_earlier: bool) -> None:
        await asyncio.to_thread(self.stack.replace, service, **self._options(of_earlier))

    async def stop(self, service: str) -> None:
        await asyncio.to_thread(self.stack.processes.pop(service).stop)

    async def upgrade_bus(self) -> None:
        """The rights and the streams of this version. Whoever reads streams, which the earlier one
        did by consumers of its own, follows at once."""
        for service in READERS:
            await self.stop(service)
        await asyncio.to_thread(self.stack.renew_nkeys)  # no key is new: the rights are
        await asyncio.to_thread(self.restart_bus)
        await asyncio.to_thread(self.stack.apply_streams)
        for service in READERS:
            await self.start(service, of_earlier=False)

    def restart_bus(self, config: str = "") -> None:
        """With another configuration, if there is one: new accounts take a start."""
        self.stack.nats.stop()
        self.stack.nats.config_text = config or self.stack.nats.config_text
        self.stack.nats.start()

    async def operate(self, name: str) -> None:
        """An object comes and goes, by two operations through all services."""
        for delete in (False, True):
            operation = await self.send(name, delete=delete)
            await self.ended([operation])

    async def send(self, name: str, *, delete: bool = False) -> str:
        operation = await self.client.accepted("custom", body=config_map(name), delete=delete)
        self.told.append(operation)
        return operation

    async def ended(self, operations: Sequence[str]) -> None:
        for operation in operations:
            [final] = await self.client.finals(operation, within_s=180.0)
            assert not final.failed, final.event

    async def waiting(self, count: int) -> None:
        """Until so many commands wait in the queue."""
        async with admin_bus(self.stack) as bus:
            await eventually(
                lambda: _holds(bus, count), what=f"{count} commands to wait", within_s=120.0
            )

    def _options(self, of_earlier: bool) -> dict[str, Any]:
        if not of_earlier:
            return {}
        # It has no bucket that would tell its translator what lifecycle has.
        folder = {"MESHBUS_TRANSLATOR_DISTRIBUTIONS": str(distributions_folder())}
        return {"settings": self.earlier.environment | folder, "under": self.earlier.under}


async def _holds(bus: Any, count: int) -> bool:
    return await message_count(bus, "CMD") == count


@pytest.fixture
async def mixed(built: None, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Mixed]:
    """All of the version before this one."""
    earlier = Earlier.of(former_code(), tmp_path / "earlier")
    settings = {"MESHBUS_ACK_WAIT": f"{ACK_WAIT_S}s"}
    stack = Stack(tmp_path / "stack", services=ORDER, settings=settings)
    keys = {user: key.public for user, key in stack.ring.nkeys.items()}
    stack.nats.config_text = earlier.nats_config(keys)
    try:
        await asyncio.to_thread(stack.nats.start)
        await asyncio.to_thread(earlier.apply_streams, stack.admin_settings())
        meshery = Meshery(stack.gateway_address, [cluster.kubeconfig_text])
        started = Mixed(stack, earlier, meshery, told=[])
        for service in ORDER:
            await started.start(service, of_earlier=True)
        async with meshery.connected():
            yield started
    finally:
        await asyncio.to_thread(stack.stop)


async def test_operations_outlive_an_upgrade_and_the_way_back(
    mixed: Mixed, cluster: Cluster
) -> None:
    await mixed.operate("before")

    # Commands of the earlier gateway and the earlier translator wait for those of this version.
    waiting = await _queue(mixed, "up")
    await mixed.upgrade_bus()
    await mixed.waiting(len(waiting))
    await mixed.start("lifecycle", of_earlier=False)
    await mixed.start("translator", of_earlier=False)
    await mixed.ended(waiting)
    await mixed.operate("upgraded")

    # And back, with what this version has put into the queue. The former rights are not enough for
    # services of this version, so none of them is left then.
    waiting = await _queue(mixed, "down")
    for service in READERS:
        await mixed.stop(service)
    keys = {user: key.public for user, key in mixed.stack.ring.nkeys.items()}
    await asyncio.to_thread(mixed.restart_bus, mixed.earlier.nats_config(keys))
    await _give_up_audits(mixed.stack)
    await asyncio.to_thread(mixed.earlier.apply_streams, mixed.stack.admin_settings())
    await mixed.waiting(len(waiting))
    for service in ORDER:
        await mixed.start(service, of_earlier=True)
    await mixed.ended(waiting)
    await mixed.operate("after")

    await _each_ended_once(mixed)
    for name in [name for way in ("up", "down") for name in _names(way)]:
        cluster.kubectl("delete", "configmap", name, "-n", "default")
    for service in ORDER:
        assert mixed.stack.refusals(service) == []


async def _give_up_audits(stack: Stack) -> None:
    """As the page about upgrades says: the earlier version has all entries in one stream."""
    async with admin_bus(stack) as bus:
        for service in AUDITED[1:]:
            name = audit_stream(service)
            found = await call_api(bus.client, f"STREAM.INFO.{name}", {})
            edited = {**found["config"], "subjects": [f"former.audit.{service}"]}
            answer = await call_api(bus.client, f"STREAM.UPDATE.{name}", edited)
            assert "error" not in answer, answer


async def test_a_newer_gateway_asks_older_workers(mixed: Mixed) -> None:
    """Helm replaces all at once, so any order happens."""
    await mixed.operate("before")
    await mixed.upgrade_bus()
    await mixed.operate("newer-gateway")
    await mixed.replace("translator", of_earlier=False)
    await mixed.operate("older-lifecycle")
    await mixed.replace("lifecycle", of_earlier=False)
    await mixed.operate("upgraded")
    await _each_ended_once(mixed)


@pytest.mark.parametrize("begins", BOTH)
async def test_what_a_worker_of_one_version_has_begun_one_of_another_finishes(
    mixed: Mixed, cluster: Cluster, begins: str
) -> None:
    await mixed.upgrade_bus()
    if begins == "this":
        await mixed.replace("lifecycle", of_earlier=False)
    cluster.kubectl("create", "namespace", "istio-system")
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(no_pods_quota("istio-system")))
    operation = await mixed.client.accepted("istio", version=ISTIO_VERSION, body=_MINIMAL)
    mixed.told.append(operation)
    await mixed.client.told(operation, "Wave 3", within_s=120.0)
    mixed.stack.processes.pop("lifecycle").kill()
    await mixed.start("lifecycle", of_earlier=begins == "this", name="lifecycle-2")
    cluster.kubectl("delete", "resourcequota", "no-pods", "-n", "istio-system")
    cluster.kubectl("rollout", "restart", "deployment", "istiod", "-n", "istio-system")

    await mixed.ended([operation])
    events = await stored_events(mixed.stack, operation)
    assert {event.attempt for event in events if event.service == "lifecycle"} == {1, 2}
    await _each_ended_once(mixed)
    await without_istio(mixed.client, cluster)
    cluster.kubectl("delete", "namespace", "istio-system", "--ignore-not-found")


async def _queue(mixed: Mixed, way: str) -> list[str]:
    """Some commands wait for lifecycle, with a plan, and some for the translator."""
    await mixed.stop("lifecycle")
    handed_on, asked = _names(way)[:2], _names(way)[2:]
    waiting = [await mixed.send(name) for name in handed_on]
    await mixed.waiting(len(handed_on))
    await mixed.stop("translator")
    waiting += [await mixed.send(name) for name in asked]
    await mixed.waiting(len(waiting))
    return waiting


def _names(way: str) -> list[str]:
    return [f"{way}-{number}" for number in range(4)]


async def _each_ended_once(mixed: Mixed) -> None:
    for operation in mixed.told:
        events = await stored_events(mixed.stack, operation)
        ends = [event.phase for event in events if event.is_final]
        assert ends == [Phase.DONE], events
        assert len([r for r in mixed.client.of(operation) if r.is_final]) == 1
    async with admin_bus(mixed.stack) as bus:
        assert await message_count(bus, "CMD") == 0
        assert await message_count(bus, "DLQ") == 0


@pytest.mark.parametrize("conductor", BOTH)
async def test_load_is_shared_by_workers_of_two_versions(
    built: None, tmp_path: Path, conductor: str
) -> None:
    """One conducts, both send: commands, starts, reports and results pass between versions."""
    earlier = Earlier.of(former_code(), tmp_path / "earlier")
    workers: dict[str, dict[str, Any]] = {
        "earlier": {"settings": earlier.environment, "under": earlier.under},
        "this": {},
    }
    with Backends() as backends:
        target = backends.add("target")
        # A busy machine takes its time to start the second one.
        settings = {"perf_targets": "127.0.0.0/8", "perf_start_within": "120s"}
        test = smp(f"http://{loopback.HOST}:{target.port}/", workers=2)
        async with rigged(tmp_path / "rig", workers=0, **settings) as rig:
            for name in sorted(workers, key=lambda name: name != conductor):
                await asyncio.to_thread(rig.stack.add, "perf", name=name, **workers[name])
                await asyncio.to_thread(rig.stack.wait_ready, name)
                if name == conductor:
                    run = await rig.start(test)
                    await rig.until(run, "waiting")
            record = await rig.until(run, *ENDED)
            assert (record["state"], record["missing"]) == ("done", []), record
            assert sorted(record["workers"]) == ["earlier", "this"]
            measurement = await rig.measurement(run)
        sent = sum(measurement.tally.durations.counts)
        assert sent == record["requests"] == target.requests["GET", "/"]
