"""The runner of operations on a real server: the record, the final event, and the message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from pydantic_settings import BaseSettings

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.audits import Audit, auditing
from services.chassis.bus.connection import Bus
from services.chassis.bus.deadletters import DeadLetter
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Delivery, Retry
from services.chassis.bus.streams import MAX_DELIVERIES, audit_stream
from services.chassis.errors import (
    AttemptsExhausted,
    ClusterForbidden,
    GrantRefused,
    LeaseLost,
    Superseded,
)
from services.chassis.health import Health
from services.chassis.messages import (
    AdvertisedOperation,
    AuditEntry,
    Category,
    Command,
    Event,
    OperationRecord,
    OperationState,
    Outcome,
    Phase,
    Plan,
    SlotKind,
)
from services.chassis.operations.completion import Result
from services.chassis.operations.running import Attempt, Operation, Runner
from services.chassis.service import Chassis
from services.chassis.settings import ChassisSettings
from services.chassis.telemetry.metrics import Metrics
from tests.real.chassis.bus.queues import WITHIN, Hands, Queue, running
from tests.testbed.waiting import eventually

SERVICE = "perf"
"""One whose events have a stream; the queue and the cluster are each test's own."""


@dataclass(slots=True)
class Bench:
    """What an operation of these tests works with: its attempt, and what it wrote."""

    attempt: Attempt
    written: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Shop:
    """One service with the operations of these tests, and what it saw."""

    queue: Queue
    works: list[Bench] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    audit: Audit | None = None
    """Where the entries are to be read."""

    @property
    def cluster(self) -> str:
        return f"c{self.queue.service}"

    def runner(
        self,
        *,
        is_exclusive: bool = True,
        resumes: bool = False,
        authorize: Callable[[Command, str], Awaitable[None]] | None = None,
    ) -> Runner[Bench]:
        metrics = Metrics()
        chassis = Chassis(
            service=SERVICE,
            settings=ChassisSettings(instance="here", ack_wait=timedelta(seconds=30)),
            own=BaseSettings(),
            bus=self.queue.bus,
            publisher=Publisher(self.queue.bus),
            metrics=metrics,
            health=Health(SERVICE, metrics),
            audit=self.audit or Audit(Publisher(self.queue.bus), metrics),
        )
        return Runner(
            chassis,
            self._operations(),
            work=self._work,
            changes=lambda work: " ".join(work.written) if work else "Nothing.",
            planned=None if not is_exclusive else self._planned,
            forget=self._forget,
            authorize=authorize,
            is_exclusive=is_exclusive,
            resumes=resumes,
        )

    def command(self, kind: str, **fields: Any) -> Command:
        return Command(operation="op", kind=kind, cluster=self.cluster, **fields)

    async def ends(
        self, command: Command, runner: Runner[Bench] | None = None, *, subject: str = ""
    ) -> OperationRecord | None:
        """The operation's record once its message has left the queue."""
        runner = runner or self.runner()
        async with running(self.queue.worker(runner.handle)):
            await self.send(command, subject)
            await eventually(self.is_empty, what="the command to be done with")
        stored = await runner.claims.stored(command.operation, command.cluster)
        return stored[0] if stored else None

    async def events(self) -> list[Event]:
        """All events of the operation, in the order of the stream."""
        subject = subjects.event(service=SERVICE, cluster=self.cluster, operation="op")
        found: list[Event] = []
        sequence = 1
        while True:
            try:
                message = await self.queue.bus.client.jetstream().get_msg(
                    "EVT", sequence, next=True, subject=subject
                )
            except NotFoundError:
                return found
            found.append(envelopes.decode(Event, message.data or b"", message.headers or {}))
            sequence = (message.seq or 0) + 1

    async def send(self, command: Command, subject: str = "", version: str = "") -> None:
        body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
        if version:
            headers[envelopes.SENDER_VERSION] = version
        subject = subject or subjects.apply_command(
            service=self.queue.service, cluster=self.cluster, operation=command.operation
        )
        await Publisher(self.queue.bus).raw(subject, body, headers, within=WITHIN)

    async def is_empty(self) -> bool:
        return await self.queue.stored() == 0

    @asynccontextmanager
    async def _work(self, attempt: Attempt) -> AsyncIterator[Bench]:
        self.works.append(Bench(attempt))
        yield self.works[-1]

    async def _forget(self, command: Command) -> None:
        self.forgotten.append(command.operation)

    def _operations(self) -> Mapping[str, Operation[Bench, Result | Plan]]:
        async def succeed(work: Bench) -> Result:
            work.attempt.progress.note("half way")
            return Result("all done", "with details", (("objects", 2),))

        async def fail(work: Bench) -> Result:
            work.written.append("One was written.")
            raise ClusterForbidden("no right")

        async def crash(work: Bench) -> Result:
            raise KeyError("a secret")

        async def plan(work: Bench) -> Plan:
            return Plan(steps=[], summary="planned", failing="carrying out")

        async def lose(work: Bench) -> Result:
            if len(self.works) == 1:
                raise LeaseLost("another worker")
            return Result("done by the second")

        runs = {"succeed": succeed, "fail": fail, "crash": crash, "plan": plan, "lose": lose}
        return {name: _operation(name, run) for name, run in runs.items()}

    def _planned(self, plan: Plan) -> Operation[Bench, Result]:
        async def run(work: Bench) -> Result:
            return Result(plan.summary)

        return _operation("plan", run)


def _operation(name: str, run: Any) -> Operation[Bench, Any]:
    advertised = AdvertisedOperation(
        name=name, description=name, category=Category.CUSTOM, slot=SlotKind.APPLY
    )
    return Operation(advertised, run, lambda command: f"doing {command.kind}")


@pytest.fixture
async def shop(queue: Queue) -> Shop:
    return Shop(queue)


async def test_success_is_recorded_told_and_acknowledged(shop: Shop) -> None:
    record = await shop.ends(shop.command("succeed"))
    assert record is not None
    assert (record.state, record.attempt, record.worker) == (OperationState.SUCCEEDED, 1, "here")
    note, final = await shop.events()
    assert (note.summary, final.summary, final.details) == ("half way", "all done", "with details")
    assert (final.phase, final.numbers) == (Phase.DONE, {"objects": 2.0})
    assert record.final == final
    assert shop.forgotten == ["op"]


async def test_failure_says_what_was_done_until_then(shop: Shop) -> None:
    record = await shop.ends(shop.command("fail"))
    assert record is not None
    assert record.state is OperationState.FAILED
    [final] = await shop.events()
    assert final.summary == "Error while doing fail"
    assert final.details == "Error: no right. One was written."
    assert final.error is not None
    assert final.error.code == "MB-3003"


async def test_defect_fails_the_operation_without_its_text(shop: Shop) -> None:
    record = await shop.ends(shop.command("crash"))
    assert record is not None
    assert record.state is OperationState.FAILED
    assert "secret" not in record.model_dump_json()


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("other", {}, "offers no operation 'other'"),
        (
            "succeed",
            {"deadline": datetime.now(timezone.utc) - timedelta(seconds=1)},
            "the command was not started before its deadline",
        ),
    ],
)
async def test_command_that_may_not_start_fails_without_work(
    shop: Shop, kind: str, fields: dict[str, Any], words: str
) -> None:
    record = await shop.ends(shop.command(kind, **fields))
    assert record is not None
    assert record.error is not None
    assert words in record.error.summary
    assert record.final is not None
    assert record.final.details.endswith("Nothing.")
    assert shop.works == []


async def test_what_only_a_later_version_offers_waits_for_its_worker(shop: Shop) -> None:
    older, later = shop.runner(), shop.runner()
    older.operations = {}
    handed_back = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        try:
            await older.handle(delivery)
        except Retry:
            handed_back.set()
            raise

    async with running(shop.queue.worker(handle)):
        await shop.send(shop.command("succeed"), version="99.0.0")
        await asyncio.wait_for(handed_back.wait(), 30)
    assert await shop.events() == []
    async with running(shop.queue.worker(later.handle)):
        await eventually(shop.is_empty, what="the command to be done with")
    assert [event.phase for event in await shop.events()] == [Phase.NOTE, Phase.DONE]


async def test_what_only_a_later_version_can_read_is_no_garbage(shop: Shop) -> None:
    hands = Hands(shop.runner().handle)
    later = {"operation": "op", "kind": "succeed", "verb": "polish"}
    subject = subjects.apply_command(
        service=shop.queue.service, cluster=shop.cluster, operation="op"
    )
    async with running(shop.queue.worker(hands)):
        headers = {envelopes.SENDER_VERSION: "99.0.0"}
        await Publisher(shop.queue.bus).raw(
            subject, json.dumps(later).encode(), headers, within=WITHIN
        )
        assert [(await hands.next()).attempt for _ in range(2)] == [1, 2]
    assert (await shop.queue.stored(), await shop.queue.buried()) == (1, 0)


async def test_nobody_offers_it_is_told_in_the_end(shop: Shop) -> None:
    """The fifth delivery tells it, as the first one does of this version's own commands."""
    runner = shop.runner()

    async def handle(delivery: Delivery) -> None:
        delivery.attempt = MAX_DELIVERIES
        await runner.handle(delivery)

    async with running(shop.queue.worker(handle)):
        await shop.send(shop.command("other"), version="99.0.0")
        await eventually(shop.is_empty, what="the command to be done with")
    [final] = await shop.events()
    assert final.error is not None
    assert "offers no operation 'other'" in final.error.summary


async def test_later_attempt_may_go_on_after_the_deadline_where_work_resumes(shop: Shop) -> None:
    runner = shop.runner(resumes=True)
    late = shop.command("succeed", deadline=datetime.now(timezone.utc) - timedelta(seconds=1))
    running_record = OperationRecord(
        operation="op", kind="succeed", cluster=shop.cluster, state=OperationState.RUNNING
    )
    key = subjects.operation_key("op", shop.cluster)
    await runner.claims.records.create(key, running_record)
    record = await shop.ends(late, runner)
    assert record is not None
    assert (record.state, record.attempt) == (OperationState.SUCCEEDED, 2)


async def test_ended_operation_is_told_again_and_not_run_again(shop: Shop) -> None:
    command = shop.command("succeed")
    first = await shop.ends(command)
    second = await shop.ends(command)
    assert first == second
    assert len(shop.works) == 1
    assert shop.forgotten == ["op", "op"]


async def test_record_of_a_new_operation_is_written_unread(shop: Shop) -> None:
    """Claimed and closed by revision: a read would only say what the server says to a write."""
    read: list[str] = []

    async def heard(message: Msg) -> None:
        read.append(message.subject)

    client = shop.queue.bus.client
    key = subjects.operation_key("op", shop.cluster)
    listening = await client.subscribe(f"$JS.API.DIRECT.GET.KV_ops.$KV.ops.{key}", cb=heard)
    record = await shop.ends(shop.command("succeed"))
    assert record is not None
    assert (record.state, record.attempt) == (OperationState.SUCCEEDED, 1)
    await eventually(lambda: bool(read), what="the read of this test itself")
    await client.flush()
    assert len(read) == 1
    await listening.unsubscribe()


async def test_lost_claim_leaves_the_command_to_the_next_worker(own_bus: Bus, name: str) -> None:
    queue = await Queue(own_bus, service=name).create(ack_wait=timedelta(milliseconds=300))
    shop = Shop(queue)
    record = await shop.ends(shop.command("lose"))
    assert record is not None
    assert (record.state, record.attempt) == (OperationState.SUCCEEDED, 2)


async def test_cancelled_ahead_stops_at_the_first_check(shop: Shop) -> None:
    runner = shop.runner()
    assert await runner.claims.cancel("op", shop.cluster, kind="succeed")
    record = await shop.ends(shop.command("succeed"), runner)
    assert record is not None
    # This operation writes nothing and so checks nothing; its fence has fallen all the same.
    assert shop.works[0].attempt.fence.is_stopped


async def test_plan_of_a_command_runs_whatever_its_kind(shop: Shop) -> None:
    plan = Plan(steps=[], summary="carried out", failing="carrying out")
    record = await shop.ends(shop.command("unknown", plan=plan))
    assert record is not None
    assert record.summary == "carried out"


@pytest.mark.parametrize("region", ["", "east"])
async def test_plan_is_handed_on_and_the_record_left_alone(region: str, shop: Shop) -> None:
    command = shop.command("plan", body="text", region=region)
    record = await shop.ends(command, shop.runner(is_exclusive=False))
    assert record is None
    subject = subjects.handed_on(
        service="lifecycle", cluster=shop.cluster, sender=SERVICE, operation="op", region=region
    )
    message = await shop.queue.bus.client.jetstream().get_last_msg("CMD", subject)
    handed = envelopes.decode(Command, message.data or b"", message.headers or {})
    assert handed.plan is not None
    assert (handed.plan.summary, handed.kind, handed.body) == ("planned", "plan", "")
    assert shop.forgotten == []


async def test_what_the_sender_may_not_ask_for_fails_before_it_begins(shop: Shop) -> None:
    runner = shop.runner(authorize=_refusing)
    record = await shop.ends(shop.command("done", credential="operation.op.x"), runner)
    assert record is not None
    assert record.state is OperationState.FAILED
    [final] = await shop.events()
    assert final.error is not None
    assert final.error.code == GrantRefused.code
    assert (shop.works, shop.forgotten) == ([], [])


async def test_the_audit_has_what_was_done_and_what_was_refused(shop: Shop) -> None:
    async with auditing(Publisher(shop.queue.bus), Metrics()) as shop.audit:
        await shop.ends(shop.command("succeed"))
        other = shop.command("done", username="somebody")
        subject = subjects.handed_on(
            service=shop.queue.service, cluster=shop.cluster, sender="perf", operation="op"
        )
        await shop.ends(other, shop.runner(authorize=_refusing), subject=subject)
    context = shop.queue.bus.client.jetstream()
    last = await context.get_last_msg(audit_stream(SERVICE), subjects.audit(SERVICE))
    refused = AuditEntry.model_validate_json(last.data or b"")
    before = await context.get_msg(audit_stream(SERVICE), (last.seq or 0) - 1)
    done = AuditEntry.model_validate_json(before.data or b"")
    assert (done.kind, done.outcome, done.identity) == ("succeed", Outcome.DONE, "")
    assert (refused.kind, refused.outcome) == ("done", Outcome.REFUSED)
    # Whoever sent it is known from NATS; what the command says of its asker is not believed.
    assert (refused.identity, refused.by, refused.code) == ("perf", "nats", GrantRefused.code)
    assert refused.clusters == [shop.cluster]


async def test_a_refused_command_ends_nobody_else_s_operation(shop: Shop) -> None:
    runner = shop.runner(authorize=_refusing)
    theirs = OperationRecord(
        operation="op", kind="done", cluster=shop.cluster, state=OperationState.RUNNING
    )
    key = subjects.operation_key("op", shop.cluster)
    await runner.claims.records.create(key, theirs)
    assert await shop.ends(shop.command("done"), runner) == theirs
    assert shop.works == []
    assert await shop.queue.buried() == 1


async def test_what_was_superseded_is_ended_once_and_is_no_dead_letter(shop: Shop) -> None:
    runner = shop.runner(authorize=_superseding)
    died = OperationRecord(
        operation="op", kind="done", cluster=shop.cluster, state=OperationState.RUNNING
    )
    await runner.claims.records.create(subjects.operation_key("op", shop.cluster), died)
    ended = await shop.ends(shop.command("done"), runner)
    assert ended is not None
    assert (ended.state, ended.attempt) == (OperationState.FAILED, 2)
    assert ended.error is not None
    assert ended.error.code == Superseded.code
    # A worker that was cut off brings it once more.
    assert await shop.ends(shop.command("done"), runner) == ended
    assert len(await shop.events()) == 1
    assert (shop.works, await shop.queue.buried()) == ([], 0)


async def test_a_service_that_judges_nobody_takes_nothing_from_services(shop: Shop) -> None:
    subject = subjects.handed_on(
        service=shop.queue.service, cluster=shop.cluster, sender="perf", operation="op"
    )
    assert await shop.ends(shop.command("done"), subject=subject) is None
    assert shop.works == []
    assert await shop.queue.buried() == 1


async def test_service_that_claims_nothing_leaves_a_record_of_another(shop: Shop) -> None:
    runner = shop.runner(is_exclusive=False)
    theirs = OperationRecord(
        operation="op", kind="plan", cluster=shop.cluster, state=OperationState.RUNNING
    )
    key = subjects.operation_key("op", shop.cluster)
    await runner.claims.records.create(key, theirs)
    assert await shop.ends(shop.command("plan"), runner) == theirs
    assert shop.works == []


async def test_exhausted_command_fails_its_operation_once(shop: Shop) -> None:
    runner = shop.runner()
    body, headers = envelopes.encode(shop.command("fail"), content_type=envelopes.MSGPACK)
    subject = subjects.apply_command(
        service=shop.queue.service, cluster=shop.cluster, operation="op"
    )
    letter = DeadLetter(subject, headers, body)
    for _ in range(2):
        await runner.fail_exhausted(letter, AttemptsExhausted("5 attempts failed"))
    [final] = await shop.events()
    assert final.summary == "Error while doing fail"
    assert final.details == "Error: 5 attempts failed."


async def _refusing(_command: Command, _sender: str) -> None:
    raise GrantRefused("that was not asked for")


async def _superseding(_command: Command, _sender: str) -> None:
    raise Superseded("it was sent anew since")
