"""Whoever conducts a rollout, on a real server: each cluster's operation has an end, and what was
kept for its steps goes with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from pydantic_settings import BaseSettings

from services.chassis.bus import envelopes, streams, subjects
from services.chassis.bus.audits import Audit
from services.chassis.bus.connection import Bus
from services.chassis.bus.deadletters import DeadLetters
from services.chassis.bus.leases import Leases
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Delivery, PullWorker, consuming
from services.chassis.bus.reading import OrderedReader
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.streams import Region, call_api
from services.chassis.bus.subjects import CommandSubject
from services.chassis.errors import GrantRefused, RolloutStopped
from services.chassis.health import Health
from services.chassis.messages import Command, Event, OperationRecord, OperationState, Phase
from services.chassis.operations.running import Runner
from services.chassis.service import Chassis
from services.chassis.settings import ChassisSettings
from services.chassis.telemetry.metrics import Metrics
from services.lifecycle.rollouts import conducting
from services.lifecycle.rollouts.conducting import Conductors
from services.lifecycle.rollouts.deciding import Verdict
from services.lifecycle.rollouts.options import GateOptions
from services.lifecycle.rollouts.records import (
    KIND,
    MOST_JUDGED,
    Fate,
    PartRecord,
    RolloutPart,
    RolloutRecord,
    RolloutStep,
    part_key,
    rollout_key,
)
from services.lifecycle.rollouts.store import Store
from tests.testbed.waiting import eventually

ROLLOUT = "op"
_PATIENCE = timedelta(seconds=20)


@dataclass(slots=True)
class Headquarters:
    """A conductor, and the operations that it conducts."""

    bus: Bus
    runner: Runner[None]
    store: Store

    @property
    def operations(self) -> Records[OperationRecord]:
        return self.store.operations

    async def begin(
        self,
        clusters: Sequence[str],
        *,
        expires: datetime,
        regions: Mapping[str, str] | None = None,
    ) -> None:
        """A rollout whose commands have all come, and are parked; clusters may be in regions."""
        await self.store.create(
            RolloutRecord(
                rollout=ROLLOUT,
                title="Istio 1.31.0",
                version="1.31.0",
                options={"version": "1.31.0", "soakSeconds": 0, "gate": {"windowSeconds": 5}},
                parts={name: RolloutPart(cluster=name, name=name) for name in clusters},
            )
        )
        for cluster in clusters:
            command = Command(operation=ROLLOUT, kind=KIND, cluster=cluster, deadline=expires)
            body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
            await self.store.claim(cluster, rollout=ROLLOUT, cluster=cluster)
            await self.operations.create(
                subjects.operation_key(ROLLOUT, cluster),
                OperationRecord(
                    operation=ROLLOUT,
                    kind=KIND,
                    cluster=cluster,
                    state=OperationState.RUNNING,
                    attempt=1,
                ),
            )
            await self.store.enrol(
                PartRecord(
                    rollout=ROLLOUT,
                    cluster=cluster,
                    headers=headers,
                    region=(regions or {}).get(cluster, ""),
                    command=base64.b64encode(body).decode(),
                    expires=expires,
                )
            )

    @asynccontextmanager
    async def conducting(self) -> AsyncIterator[None]:
        conductors = Conductors(
            store=self.store,
            leases=Leases(
                Bucket(self.bus, "leases"), "here", timedelta(milliseconds=200), beats=True
            ),
            claims=self.runner.claims,
            publisher=Publisher(self.bus),
            judge=_content,
            fail=self.runner.fail,
            allowance=_PATIENCE,
            now=lambda: datetime.now(timezone.utc),
        )
        async with conductors.conducting():
            yield

    @asynccontextmanager
    async def working(
        self, handle: Callable[[Delivery], Awaitable[None]], *, region: str = ""
    ) -> AsyncIterator[None]:
        """Whoever takes lifecycle's commands, of a region or of none."""
        letters = DeadLetters(Publisher(self.bus))
        consumer = subjects.consumer("lifecycle", region)
        worker = PullWorker(self.bus, "CMD", consumer, handle, letters.bury_delivery, slots=8)
        async with consuming(worker, grace=_PATIENCE):
            yield

    async def answer(self, delivery: Delivery) -> None:
        """Does a step as a worker would that finds all in order, on no cluster."""
        cluster = delivery.message.subject.split(".")[2]
        record, stored = await asyncio.gather(
            self.store.rollout(ROLLOUT), self.store.part(ROLLOUT, cluster)
        )
        assert record is not None
        part = record.parts[cluster]
        if part.step is RolloutStep.END:
            outline = Command(operation=ROLLOUT, kind=KIND, cluster=cluster)
            await self.runner.fail(outline, RolloutStopped("that is all of it"))
        elif stored is not None and stored[0].number != part.number:
            names = [f"namespace-{number}" for number in range(MOST_JUDGED)]
            answered = {"number": part.number, "from_revision": "old", "namespaces": names}
            await self.store.answer(stored[0].model_copy(update=answered), revision=stored[1])

    async def over(self) -> RolloutRecord:
        async def is_over() -> bool:
            record = await self.store.rollout(ROLLOUT)
            return record is not None and record.is_over

        await eventually(is_over, what="the rollout to be over", within_s=300)
        record = await self.store.rollout(ROLLOUT)
        assert record is not None
        return record

    async def end(self, cluster: str) -> OperationRecord:
        stored = await self.operations.get(subjects.operation_key(ROLLOUT, cluster))
        assert stored is not None
        assert stored[0].state.is_terminal
        assert stored[0].final is not None
        assert stored[0].final.is_final
        return stored[0]

    async def letters(self) -> int:
        answer = await call_api(
            self.bus.client, "STREAM.INFO.DLQ", {"subjects_filter": "dlq.lifecycle"}
        )
        found: dict[str, int] = (answer.get("state") or {}).get("subjects") or {}
        return sum(found.values())


async def _content(_: GateOptions, parts: Sequence[RolloutPart], version: str) -> Verdict:
    return Verdict()


async def _refuse(_: Command, sender: str) -> None:
    raise GrantRefused("its key was taken back")


@pytest.fixture
async def headquarters(own_bus: Bus) -> Headquarters:
    metrics = Metrics()
    publisher = Publisher(own_bus)
    chassis = Chassis(
        service="lifecycle",
        settings=ChassisSettings(instance="here", ack_wait=timedelta(seconds=30)),
        own=BaseSettings(),
        bus=own_bus,
        publisher=publisher,
        metrics=metrics,
        health=Health("lifecycle", metrics),
        audit=Audit(publisher, metrics),
    )

    async def forget(_: Command) -> None:
        """There is no credential."""

    runner: Runner[None] = Runner(chassis, {}, work=_no_work, forget=forget, authorize=_refuse)
    store = Store(Bucket(own_bus, "rollouts"), runner.claims.records)
    return Headquarters(own_bus, runner, store)


@asynccontextmanager
async def _no_work(_: object) -> AsyncIterator[None]:
    yield


def _soon() -> datetime:
    return datetime.now(timezone.utc) + timedelta(days=5)


async def test_a_command_that_every_worker_refuses_ends_its_operation(
    headquarters: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conducting, "_AGAIN_AFTER_S", 0.2)
    await headquarters.begin(["c1", "c2"], expires=_soon())
    async with headquarters.conducting(), headquarters.working(headquarters.runner.handle):
        record = await headquarters.over()
    assert record.reason is not None
    assert record.reason.code == "MB-4017"
    for cluster in ("c1", "c2"):
        end = await headquarters.end(cluster)
        assert end.error is not None
        assert "no worker carries out the command" in end.error.summary
    # One for each time that the command was queued, and no more.
    assert 0 < await headquarters.letters() <= 2 * conducting._MOST_QUEUED


async def test_a_cluster_keeps_its_region_in_each_step(headquarters: Headquarters) -> None:
    await streams.reconcile(
        headquarters.bus.client,
        ack_wait=_PATIENCE,
        lease_ttl=_PATIENCE,
        regions=[Region("east")],
    )
    taken: dict[str, str] = {}

    def in_region(region: str) -> Callable[[Delivery], Awaitable[None]]:
        async def handle(delivery: Delivery) -> None:
            parsed = CommandSubject.parse(delivery.message.subject)
            assert parsed is not None
            taken[parsed.cluster] = region

        return handle

    await headquarters.begin(["c1"], expires=_soon(), regions={"c1": "east"})
    async with (
        headquarters.conducting(),
        headquarters.working(in_region("")),
        headquarters.working(in_region("east"), region="east"),
    ):
        await eventually(lambda: taken, what="its command to be taken")
    assert taken == {"c1": "east"}


async def test_a_rollout_that_nobody_took_on_in_time_has_an_end(headquarters: Headquarters) -> None:
    await headquarters.begin(["c1", "c2"], expires=datetime.now(timezone.utc))
    async with headquarters.conducting():
        record = await headquarters.over()
    assert record.reason is not None
    assert record.reason.code == "MB-2007"
    for cluster in ("c1", "c2"):
        end = await headquarters.end(cluster)
        assert end.error is not None
        assert end.error.code == "MB-2007"


async def test_an_end_that_was_recorded_and_not_told_is_told_once(
    headquarters: Headquarters,
) -> None:
    """A conductor that gives a cluster up dies between the record and the event."""
    await headquarters.begin(["c1", "c2"], expires=_soon())
    finals = [
        Event(
            operation=ROLLOUT,
            kind=KIND,
            service="lifecycle",
            cluster=name,
            sequence=9,
            phase=Phase.FAILED,
            summary="nobody takes it",
        )
        for name in ("c1", "c2")
    ]
    for final in finals:
        key = subjects.operation_key(ROLLOUT, final.cluster)
        stored = await headquarters.operations.get(key)
        assert stored is not None
        ended = {"state": OperationState.FAILED, "final": final}
        wanted = stored[0].model_copy(update=ended)
        await headquarters.operations.update(key, wanted, revision=stored[1])
    # The other one's was told.
    await Publisher(headquarters.bus).event(finals[1])
    async with headquarters.conducting():
        await headquarters.over()
    reader = OrderedReader(headquarters.bus, "EVT", "evt.lifecycle.*.*", 1)
    async with contextlib.aclosing(reader.stored()) as messages:
        told = [envelopes.decode(Event, one.body, one.headers) async for one in messages]
    ends = [event for event in told if event.is_final]
    assert sorted(ends, key=lambda end: end.cluster) == finals


async def test_what_was_kept_for_the_steps_goes_at_the_end(headquarters: Headquarters) -> None:
    await headquarters.begin(["c1"], expires=datetime.now(timezone.utc))
    async with headquarters.conducting():
        await headquarters.over()
    bucket = headquarters.store.bucket
    assert await bucket.get(part_key(ROLLOUT, "c1")) is None
    assert await bucket.get("claim.c1") is None
    assert await bucket.get(rollout_key(ROLLOUT)) is not None


@pytest.mark.parametrize("count", [50, pytest.param(300, marks=pytest.mark.full)])
async def test_many_clusters_are_one_rollout(headquarters: Headquarters, count: int) -> None:
    clusters = [f"cluster-{number:03}-{'n' * 40}" for number in range(count)]
    await headquarters.begin(clusters, expires=_soon())
    began = time.monotonic()
    async with headquarters.conducting(), headquarters.working(headquarters.answer):
        record = await headquarters.over()
    print(f"{count} clusters, all their steps: {time.monotonic() - began:.1f} s")
    assert record.reason is None
    assert {part.fate for part in record.parts.values()} == {Fate.DONE}
