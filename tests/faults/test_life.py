"""The life of operations against a real broker, in orders that nobody thought of.

Hypothesis chooses what happens next: a command is published again, handed to another worker while
the first one still works, cancelled; a worker dies before a message reached the server or after it;
an answer of the server, or the acknowledgement of a command, gets lost. Nothing happens in between:
the loop stands still, so what fails once fails again and is made shorter.

Whatever the order: an operation that was accepted ends once, with one final event that everybody
sees alike, its record never changes after that, and its cluster is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import nats.errors
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from pydantic_settings import BaseSettings

from services.chassis.bus import envelopes, streams, subjects
from services.chassis.bus.audits import Audit
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Abandon, Delivery
from services.chassis.errors import ClusterBusy, ClusterForbidden
from services.chassis.health import Health
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    Command,
    Event,
    OperationRecord,
    SlotKind,
)
from services.chassis.operations.completion import Result
from services.chassis.operations.running import Attempt, Operation, Runner
from services.chassis.service import Chassis
from services.chassis.settings import ChassisSettings
from services.chassis.telemetry.metrics import Metrics
from tests.real.chassis.bus.queues import Queue
from tests.testbed.buses import NatsServer
from tests.testbed.waiting import eventually

SERVICE = "perf"
"""One whose events have a stream."""
WITHIN = timedelta(seconds=10)
MOST_OPERATIONS = 3
LONGEST_LIFE = timedelta(minutes=10)
"""The acknowledgement's patience: a delivery comes again only when the machine says so."""
FATES = st.sampled_from(["works", "is refused"])
ENDS = st.sampled_from(["nothing", "dies before", "dies after", "answer lost"])
STEPS = st.integers(min_value=1, max_value=6)

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Line:
    """A worker's connection, on which one of the next requests to the server may go wrong."""

    bus: Bus
    wrong: str = "nothing"
    after: int = 0

    def __post_init__(self) -> None:
        self.bus.client.request = functools.partial(  # type: ignore[method-assign]
            self._request, self.bus.client.request
        )

    async def _request(self, send: Any, *arguments: Any, **options: Any) -> Msg:
        self.after -= 1
        wrong = self.wrong if self.after == 0 else "nothing"
        if wrong == "dies before":
            raise Died
        answer: Msg = await send(*arguments, **options)
        if wrong == "dies after":
            raise Died
        if wrong == "answer lost":
            raise nats.errors.TimeoutError
        return answer


class Died(BaseException):
    """The process is gone: nothing in it may catch this."""


@dataclass(slots=True, eq=False)
class Hand:
    """A command in a worker's hands."""

    operation: str
    delivery: Delivery
    line: Line
    task: asyncio.Task[None]
    gate: asyncio.Event
    fate: list[str]


@dataclass(slots=True)
class World:
    """One broker with one cluster's slot and two workers."""

    bus: Bus
    own: Line
    """The machine's own, on which nothing goes wrong."""
    lines: list[Line]
    queue: Queue
    hands: list[Hand] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    ended: dict[str, OperationRecord] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _entering: tuple[asyncio.Event, list[str]] | None = None

    @classmethod
    async def opened(cls, url: str) -> World:
        buses = [
            await connect(ChassisSettings(nats_url=url, instance=name), service="tests")
            for name in ("gateway", "x", "y")
        ]
        name = f"t{secrets.token_hex(6)}"
        queue = await Queue(buses[0], service=name).create(ack_wait=LONGEST_LIFE, max_deliver=100)
        own, *lines = (Line(bus) for bus in buses)
        return cls(buses[0], own, lines, queue)

    async def close(self) -> None:
        for hand in self.hands:
            hand.task.cancel()
        await asyncio.gather(*(hand.task for hand in self.hands), return_exceptions=True)
        await self.queue.delete()
        for bus in (self.bus, *(line.bus for line in self.lines)):
            await bus.close()

    # --- what the outside does ------------------------------------------------------------------

    @property
    def cluster(self) -> str:
        return f"c{self.queue.service}"

    async def publish(self, operation: str) -> None:
        command = Command(operation=operation, kind="work", cluster=self.cluster)
        with contextlib.suppress(ClusterBusy):
            await Publisher(self.bus).command(
                command, service=self.queue.service, slot=SlotKind.MESH, within=WITHIN
            )
            if operation not in self.accepted:
                self.accepted.append(operation)

    async def cancel(self, operation: str) -> None:
        await self._runner(self.own).claims.cancel(operation, self.cluster)

    # --- what workers do ------------------------------------------------------------------------

    async def take(self, line: Line) -> bool:
        """Gives the worker the command that waits, and lets it go until it is in the work."""
        inbox = self.bus.client.new_inbox()
        subscription = await self.bus.client.subscribe(inbox, max_msgs=1)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.CMD.{self.queue.service}"
        await self.bus.client.publish(subject, b'{"batch":1,"no_wait":true}', reply=inbox)
        message = await subscription.next_msg(timeout=WITHIN.total_seconds())
        if (message.headers or {}).get("Status"):
            return False
        delivery = Delivery.of(message)
        body, headers = delivery.message.data, delivery.headers
        operation = envelopes.decode(Command, body, headers).operation
        gate, fate = asyncio.Event(), ["works"]
        self._entering = gate, fate
        self._arrived.clear()
        task = asyncio.create_task(self._runner(line).handle(delivery))
        self.hands.append(Hand(operation, delivery, line, task, gate, fate))
        arrived = asyncio.create_task(self._arrived.wait())
        await asyncio.wait({task, arrived}, return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        await self._settle(acknowledged=True)
        return True

    async def go_on(self, hand: Hand, fate: str, *, acknowledged: bool) -> None:
        """Lets the worker do the rest of its work."""
        hand.fate[0] = fate
        hand.gate.set()
        await asyncio.wait({hand.task})
        await self._settle(acknowledged=acknowledged)

    async def hand_out_again(self, hand: Hand) -> None:
        """What the server does when it hears nothing of a worker for too long."""
        await self.bus.client.publish(hand.delivery.message.reply, b"-NAK")
        await self.bus.client.flush()

    async def _settle(self, *, acknowledged: bool) -> None:
        """Does what the pull worker does with commands that are done with."""
        done = [hand for hand in self.hands if hand.task.done()]
        dead = [hand.line for hand in done if isinstance(hand.task.exception(), Died)]
        # With the process go all commands that it had in its hands.
        done += [hand for hand in self.hands if hand.line in dead and hand not in done]
        for hand in done:
            hand.task.cancel()
            await asyncio.wait({hand.task})
            self.hands.remove(hand)
            hand.line.wrong = "nothing"
            raised = Died() if hand.task.cancelled() else hand.task.exception()
            if raised is None and acknowledged:
                await hand.delivery.acknowledge()
            elif raised is None or isinstance(raised, Died):
                await self.hand_out_again(hand)
            elif not isinstance(raised, Abandon):
                raise raised

    def _runner(self, line: Line) -> Runner[Attempt]:
        metrics = Metrics()
        chassis = Chassis(
            service=SERVICE,
            settings=ChassisSettings(instance=line.bus.name, ack_wait=LONGEST_LIFE),
            own=BaseSettings(),
            bus=line.bus,
            publisher=Publisher(line.bus),
            metrics=metrics,
            health=Health(SERVICE, metrics),
            audit=Audit(Publisher(line.bus), metrics),
        )
        advertised = AdvertisedOperation(
            name="work", description="work", category=Category.CUSTOM, slot=SlotKind.MESH
        )

        async def work(attempt: Attempt) -> Result:
            assert self._entering is not None
            gate, fate = self._entering
            self._arrived.set()
            attempt.progress.note("in the work")
            await attempt.fence.guard(_opened(gate))
            attempt.fence.check()
            if fate[0] == "is refused":
                raise ClusterForbidden("no right")
            return Result("done")

        async def forget(_: Command) -> None: ...

        return Runner(
            chassis,
            {"work": Operation(advertised, work, lambda command: f"doing {command.kind}")},
            work=_itself,
            changes=lambda _: "",
            forget=forget,
        )

    # --- what must hold -------------------------------------------------------------------------

    async def check(self) -> None:
        """What is true at every moment."""
        for operation in self.accepted:
            # The events first: a worker goes on while this asks, and it writes the record first.
            finals = [event for event in await self.events(operation) if event.is_final]
            stored = await self._record(operation)
            if stored is None:
                assert operation not in self.ended, "the record of an ended operation is gone"
                continue
            assert stored.attempt >= self.attempts.get(operation, 0), "an attempt went back"
            self.attempts[operation] = stored.attempt
            if operation in self.ended:
                assert stored == self.ended[operation], "an operation has ended twice"
            elif stored.state.is_terminal:
                self.ended[operation] = stored
            assert len(finals) <= 1, "two final events"
            if finals:
                assert stored.final == finals[0], "the event is not the record's"

    async def end(self) -> None:
        """Everything that is open comes to its end when nothing is wrong any more."""
        for line in self.lines:
            line.wrong = "nothing"
        for hand in list(self.hands):
            await self.go_on(hand, "works", acknowledged=True)
        while await self.queue.stored():
            await eventually(lambda: self.take(self.lines[0]), what="a command")
            for hand in list(self.hands):
                await self.go_on(hand, "works", acknowledged=True)
        await self.check()
        for operation in self.accepted:
            assert operation in self.ended, "an accepted operation has no end"
            finals = [event for event in await self.events(operation) if event.is_final]
            assert len(finals) == 1, "nobody was told of the end"

    async def _record(self, operation: str) -> OperationRecord | None:
        stored = await self._runner(self.own).claims.stored(operation, self.cluster)
        return stored[0] if stored else None

    async def events(self, operation: str) -> list[Event]:
        subject = subjects.event(service=SERVICE, cluster=self.cluster, operation=operation)
        found: list[Event] = []
        sequence = 1
        while True:
            try:
                message = await self.bus.client.jetstream().get_msg(
                    "EVT", sequence, next=True, subject=subject
                )
            except NotFoundError:
                return found
            found.append(envelopes.decode(Event, message.data or b"", message.headers or {}))
            sequence = (message.seq or 0) + 1


@contextlib.asynccontextmanager
async def _itself(attempt: Attempt) -> Any:
    yield attempt


async def _opened(gate: asyncio.Event) -> None:
    await gate.wait()


class Life(RuleBasedStateMachine):
    """Chooses what happens next."""

    url = ""
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.world = self._run(World.opened(self.url))
        self.prefix = secrets.token_hex(4)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def _hand(self, which: int) -> Hand:
        return self.world.hands[which % len(self.world.hands)]

    @rule(which=st.integers(0, MOST_OPERATIONS - 1))
    def publish(self, which: int) -> None:
        self._run(self.world.publish(f"{self.prefix}-{which}"))

    @rule(worker=st.integers(0, 1), wrong=ENDS, step=STEPS)
    def take(self, worker: int, wrong: str, step: int) -> None:
        line = self.world.lines[worker]
        line.wrong, line.after = wrong, step
        self._run(self.world.take(line))

    @precondition(lambda self: self.world.hands)
    @rule(which=st.integers(0, 5), fate=FATES, wrong=ENDS, step=STEPS, acknowledged=st.booleans())
    def go_on(self, which: int, fate: str, wrong: str, step: int, acknowledged: bool) -> None:
        hand = self._hand(which)
        hand.line.wrong, hand.line.after = wrong, step
        self._run(self.world.go_on(hand, fate, acknowledged=acknowledged))

    @precondition(lambda self: self.world.hands)
    @rule(which=st.integers(0, 5))
    def hand_out_again(self, which: int) -> None:
        self._run(self.world.hand_out_again(self._hand(which)))

    @precondition(lambda self: self.world.accepted)
    @rule(which=st.integers(0, MOST_OPERATIONS - 1))
    def cancel(self, which: int) -> None:
        accepted = self.world.accepted
        self._run(self.world.cancel(accepted[which % len(accepted)]))

    @invariant()
    def holds(self) -> None:
        self._run(self.world.check())

    def teardown(self) -> None:
        try:
            self._run(self.world.end())
        finally:
            self._run(self.world.close())


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("life")) as server:
        yield server


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(20, id="a few"),
        pytest.param(250, id="many", marks=[pytest.mark.full, pytest.mark.timeout(1800)]),
    ],
)
def test_an_operation_ends_once_whatever_happens(examples: int, broker: NatsServer) -> None:
    with asyncio.Runner() as runner:

        async def apply() -> None:
            bus = await connect(ChassisSettings(nats_url=broker.url), service="admin")
            await streams.reconcile(bus.client, ack_wait=LONGEST_LIFE, lease_ttl=LONGEST_LIFE)
            await bus.close()

        runner.run(apply())
        machine = type("Life", (Life,), {"url": broker.url, "runner": runner})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=15,
                deadline=None,
                # Making a failure shorter would take longer than the test may.
                phases=(Phase.explicit, Phase.reuse, Phase.generate),
                suppress_health_check=list(HealthCheck),
            ),
        )
