"""Each NATS user under the shipped configuration: what its work needs is allowed, the rest refused.

The server's own log says what it refused. It is written a moment later than the answer, so each
look at it waits for one more refusal, asked for on purpose.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import orjson
import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from deploy.nats.permissions import USERS
from services.chassis.bus import streams, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.credentials import Opener, Sealer
from services.chassis.bus.deadletters import DeadLetter, DeadLetters, Mover
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Abandon, Delivery, PullWorker
from services.chassis.bus.queries import Query, answering
from services.chassis.bus.reading import OrderedReader
from services.chassis.bus.records import Bucket
from services.chassis.errors import AttemptsExhausted, BusUnavailable
from services.chassis.messages import Command, Event, Phase, SlotKind
from services.perf.adapters import subjects as perf_subjects
from services.perf.adapters.objects import Objects
from services.topology.adapters.feeds import Feed
from services.topology.adapters.histories import Histories
from services.topology.feed.deltas import Topic
from services.topology.feed.views import Views
from services.topology.reports.history import kept
from tests.real.chassis.bus.queues import Hands, Queue, running
from tests.testbed import loopback
from tests.testbed.stack import Stack
from tests.testbed.stored import bus_of as connected
from tests.testbed.waiting import eventually
from tests.unit.topology.reports.test_history import line, report

WITHIN = timedelta(seconds=5)
NO_PATIENCE = timedelta(milliseconds=1)
QUICK = timedelta(milliseconds=200)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The server with its streams, which the init job has made, and none of the services."""
    stack = Stack(tmp_path_factory.mktemp("permissions"))
    stack.nats.start()
    try:
        stack.run_init_job()
        yield stack
    finally:
        stack.stop()


@dataclass(slots=True)
class Watch:
    """What the server refuses to a user from now on."""

    stack: Stack
    bus: Bus
    user: str
    seen: int

    @classmethod
    def begin(cls, stack: Stack, bus: Bus, user: str) -> Watch:
        return cls(stack, bus, user, len(stack.refusals(user)))

    async def refusals(self) -> list[str]:
        """All that came until now, without the user's name."""
        last = f"nobody.may.{secrets.token_hex(4)}"
        await self.bus.client.publish(last, b"")

        def new() -> list[str]:
            found = self.stack.refusals(self.user)[self.seen :]
            return [refusal.removeprefix(f"{self.user}: ") for refusal in found]

        await eventually(lambda: any(last in refusal for refusal in new()), what="the server's log")
        return new()[:-1]


@asynccontextmanager
async def allowed(stack: Stack, user: str) -> AsyncIterator[Bus]:
    """A connection of `user`, to which nothing may be refused in the block."""
    async with connected(stack, user) as bus:
        watch = Watch.begin(stack, bus, user)
        yield bus
        assert await watch.refusals() == []


CREDENTIAL_READS = (
    "$JS.API.DIRECT.GET.KV_credentials",
    "$JS.API.DIRECT.GET.KV_credentials.$KV.credentials.cluster.a",
    "$JS.API.STREAM.MSG.GET.KV_credentials",
    "$JS.API.CONSUMER.CREATE.KV_credentials",
    "$JS.API.CONSUMER.CREATE.KV_credentials.reader.$KV.credentials.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.KV_credentials.reader",
    "$JS.API.STREAM.SNAPSHOT.KV_credentials",
)
STREAM_CHANGES = (
    "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.STREAM.UPDATE.CMD",
    "$JS.API.STREAM.DELETE.CMD",
    "$JS.API.STREAM.PURGE.CMD",
    "$JS.API.CONSUMER.DURABLE.CREATE.CMD.mine",
    "$JS.API.CONSUMER.DELETE.CMD.lifecycle",
)
REFUSED_PUBLISHES = {
    "gateway": (
        *CREDENTIAL_READS,
        *STREAM_CHANGES,
        "cmd.lifecycle.acluster.from.translator.op",
        "$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle",
        "$JS.ACK.CMD.lifecycle.1.1.1.1.0",
        "$JS.API.STREAM.MSG.DELETE.CMD",
        "evt.lifecycle.acluster.op",
        "live.evt.lifecycle.acluster.op",
        "dlq.lifecycle",
        "$KV.catalog.lifecycle",
        "$KV.leases.mesh.a",
        "$KV.intents.a",
        "$KV.clusters.a",
        "$KV.credentials.cluster.a",
        "_INBOX_lifecycle.a",
        "$KV.definitions.a",
    ),
    "lifecycle": (
        *STREAM_CHANGES,
        "$KV.ops.anop",
        "cmd.translator.acluster.apply.op",
        "cmd.topology.acluster.mesh",
        "$JS.API.CONSUMER.MSG.NEXT.CMD.topology",
        "$JS.ACK.CMD.topology.1.1.1.1.0",
        "$JS.API.STREAM.MSG.DELETE.EVT",
        "evt.gateway.acluster.op",
        "$KV.catalog.gateway",
        "$KV.delivery.floor",
        "_INBOX_gateway.a",
    ),
    "translator": (
        *CREDENTIAL_READS,
        *STREAM_CHANGES,
        "cmd.lifecycle.acluster.apply.op",
        "$KV.ops.anop",
        "$KV.credentials.operation.anop.acluster",
        "cmd.lifecycle.acluster.from.perf.op",
        "cmd.lifecycle.acluster.from.topology.op",
        "cmd.lifecycle.acluster.mesh",
        "cmd.translator.acluster.apply.op",
        "$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle",
        "$JS.API.STREAM.MSG.GET.CMD",
        "$JS.API.STREAM.MSG.DELETE.CMD",
        "evt.lifecycle.acluster.op",
        "dlq.lifecycle",
        "mesh.lifecycle.cancel",
        "mesh.topology.metrics",
        "$KV.catalog.lifecycle",
        "$KV.leases.mesh.a",
        "$KV.intents.a",
        "$KV.credentials.cluster.a",
        "_INBOX_lifecycle.a",
        "$KV.definitions.a",
    ),
    "perf": (
        *CREDENTIAL_READS,
        *STREAM_CHANGES,
        "cmd.lifecycle.acluster.apply.op",
        "$KV.ops.anop",
        "$KV.credentials.operation.anop.acluster",
        "cmd.lifecycle.acluster.from.translator.op",
        "cmd.lifecycle.acluster.from.topology.op",
        "cmd.lifecycle.acluster.mesh",
        "cmd.translator.acluster.apply.op",
        "$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle",
        "$JS.API.STREAM.MSG.GET.CMD",
        "$JS.API.STREAM.MSG.DELETE.CMD",
        "$JS.API.STREAM.MSG.DELETE.OBJ_perf",
        "evt.lifecycle.acluster.op",
        "dlq.lifecycle",
        "mesh.lifecycle.cancel",
        "$KV.catalog.lifecycle",
        "$KV.leases.mesh.a",
        "$KV.intents.a",
        "$KV.credentials.cluster.a",
        "_INBOX_lifecycle.a",
        "$KV.definitions.a",
    ),
    "topology": (
        "$JS.API.STREAM.MSG.GET.KV_credentials",
        "$JS.API.DIRECT.GET.KV_credentials.$KV.credentials.operation.op.acluster",
        "$JS.API.DIRECT.GET.KV_credentials.$KV.credentials.cluster.acluster",
        *STREAM_CHANGES,
        "cmd.lifecycle.acluster.apply.op",
        "$KV.ops.anop",
        "$KV.credentials.operation.anop.acluster",
        "cmd.lifecycle.acluster.from.translator.op",
        "cmd.lifecycle.acluster.from.perf.op",
        "cmd.lifecycle.acluster.mesh",
        "cmd.translator.acluster.apply.op",
        "$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle",
        "$JS.API.CONSUMER.CREATE.AUDIT",
        "$JS.API.CONSUMER.CREATE.KV_credentials",
        "$JS.API.STREAM.MSG.GET.CMD",
        "evt.lifecycle.acluster.op",
        "mesh.lifecycle.cancel",
        "ctl.perf.arun.stop",
        "$KV.ops.a",
        "$KV.clusters.a",
        "$KV.intents.a",
        "$KV.leases.mesh.a",
        "$KV.credentials.cluster.a",
        "_INBOX_lifecycle.a",
        "$KV.definitions.a",
        "mesh.gateway.apply",
        "mesh.gateway.deregister.by.token",
        "mesh.lifecycle.cancel.for.gateway",
        "$JS.API.STREAM.MSG.GET.DLQ",
    ),
    "operator": (
        *CREDENTIAL_READS,
        *STREAM_CHANGES,
        "ctl.perf.arun.stop",
        "ctl.topology.acluster.heal",
        "evt.topology.acluster.graph.delta",
        "$O.perf.M.a",
        "$JS.API.STREAM.INFO.KV_credentials",
        "$JS.API.STREAM.MSG.GET.CMD",
        "$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle",
        "$JS.API.STREAM.MSG.DELETE.DLQ",
        "evt.lifecycle.acluster.op",
        "dlq.lifecycle",
        "$KV.ops.a",
        "$KV.credentials.cluster.a",
        "_INBOX_gateway.a",
    ),
    "system": ("cmd.lifecycle.acluster.mesh", "$JS.API.STREAM.NAMES", "$SYS.REQ.SERVER.A.RELOAD"),
}
REFUSED_SUBSCRIPTIONS = {
    "admin": ("_INBOX_gateway.>", "_INBOX.>", "$KV.credentials.>", ">"),
    "gateway": ("_INBOX_lifecycle.>", "$KV.credentials.>", "cmd.>", "mesh.lifecycle.versions", ">"),
    "lifecycle": ("_INBOX_gateway.>", "$KV.credentials.>", "cmd.>", "mesh.gateway.clusters", ">"),
    "translator": ("_INBOX_lifecycle.>", "$KV.credentials.>", "cmd.>", "live.evt.>", ">"),
    "perf": ("_INBOX_lifecycle.>", "$KV.credentials.>", "cmd.>", "live.evt.>", ">"),
    "topology": ("_INBOX_lifecycle.>", "$KV.credentials.>", "cmd.>", "live.evt.>", ">"),
    "operator": ("_INBOX_gateway.>", "$KV.credentials.>", "cmd.>", "mesh.>", "$SRV.PING", ">"),
    "system": ("_INBOX_operator.>", ">"),
}


@pytest.mark.parametrize("user", REFUSED_PUBLISHES)
async def test_foreign_subjects_cannot_be_published_to(stack: Stack, user: str) -> None:
    async with connected(stack, user) as bus:
        watch = Watch.begin(stack, bus, user)
        for subject in REFUSED_PUBLISHES[user]:
            await bus.client.publish(subject, b"{}")
        wanted = [f'Publish Violation - Subject "{s}"' for s in REFUSED_PUBLISHES[user]]
        assert await watch.refusals() == wanted


@pytest.mark.parametrize("user", REFUSED_SUBSCRIPTIONS)
async def test_foreign_subjects_cannot_be_listened_to(stack: Stack, user: str) -> None:
    async with connected(stack, user) as bus:
        watch = Watch.begin(stack, bus, user)
        for subject in REFUSED_SUBSCRIPTIONS[user]:
            await bus.client.subscribe(subject)
        refused = await watch.refusals()
    assert len(refused) == len(REFUSED_SUBSCRIPTIONS[user]), refused
    for subject, refusal in zip(REFUSED_SUBSCRIPTIONS[user], refused, strict=True):
        assert f'Subscription Violation - Subject "{subject}"' in refusal


async def test_a_refusal_is_an_error_of_ours_and_changes_nothing(stack: Stack) -> None:
    command = Command(operation="foreign", kind="istio", cluster="foreign")
    async with connected(stack, "topology") as topology, connected(stack, "gateway") as gateway:
        with pytest.raises(BusUnavailable):
            await Publisher(topology).command(
                command, service="lifecycle", slot=SlotKind.MESH, within=NO_PATIENCE
            )
        credentials = Bucket(gateway, "credentials", NO_PATIENCE)
        await _sealer(gateway).put("operation.op.secret", "a kubeconfig", ttl=None)
        with pytest.raises(BusUnavailable):
            await credentials.get("operation.op.secret")
    async with connected(stack, "admin") as admin:
        assert await _queued(admin, "foreign") == []


async def test_nobody_gets_in_without_a_key(stack: Stack) -> None:
    # By hand, because nats-py leaves its socket open when it is refused.
    reader, writer = await asyncio.open_connection(loopback.HOST, stack.nats.port)
    assert (await reader.readline()).startswith(b"INFO ")
    writer.write(b'CONNECT {"verbose": false}\r\nPING\r\n')
    assert await reader.readline() == b"-ERR 'Authorization Violation'\r\n"
    writer.close()
    await writer.wait_closed()


async def test_the_init_job_may_run_again(stack: Stack) -> None:
    async with allowed(stack, "admin") as admin:
        settings = stack.settings("admin")
        await streams.reconcile(
            admin.client, ack_wait=settings.ack_wait, lease_ttl=settings.ack_wait * 2
        )
        await streams.verify(admin.client, lease_ttl=settings.ack_wait * 2)


async def test_the_gateway_may_do_its_work(stack: Stack) -> None:
    async with allowed(stack, "gateway") as bus:
        await streams.verify(bus.client, lease_ttl=WITHIN)
        publisher, sealer = Publisher(bus), _sealer(bus)
        key = subjects.operation_credential("g1", "gcluster")
        assert await sealer.create(key, "a kubeconfig", ttl=WITHIN)
        assert not await sealer.create(key, "another one", ttl=WITHIN)
        await sealer.bucket.delete(key)
        for bucket, is_own in (("ops", True), ("delivery", True)):
            await _written(Bucket(bus, bucket), own=is_own)
        await Bucket(bus, "clusters").keys()
        await Bucket(bus, "clusters").get("gcluster")
        await Bucket(bus, "catalog").keys()
        await Bucket(bus, "catalog").get("lifecycle")
        command = Command(operation="g1", kind="istio", cluster="gcluster")
        for slot in SlotKind:
            await publisher.command(command, service="translator", slot=slot, within=WITHIN)
        await streams.call_api(bus.client, "CONSUMER.INFO.CMD.lifecycle", {})
        await streams.call_api(bus.client, "STREAM.INFO.EVT", {})
        await publisher.event(_event("gateway", "g1"))
        reader = OrderedReader(bus, "EVT", "evt.*.*.*", 1).messages()
        assert (await anext(reader)).subject.startswith("evt.")
        await reader.aclose()
        await bus.client.subscribe("live.kv.catalog.>")


async def test_lifecycle_may_do_its_work(stack: Stack) -> None:
    async with connected(stack, "gateway") as gateway:
        key = subjects.operation_credential("l1", "lcluster")
        await _sealer(gateway).put(key, "a kubeconfig", ttl=WITHIN)
        command = Command(operation="l1", kind="istio", cluster="lcluster", credential=key)
        await Publisher(gateway).command(
            command, service="lifecycle", slot=SlotKind.MESH, within=WITHIN
        )
    async with allowed(stack, "lifecycle") as bus, connected(stack, "admin") as admin:
        await streams.verify(bus.client, lease_ttl=WITHIN)
        publisher, opener = Publisher(bus), _opener(bus)

        async def work(delivery: Delivery) -> None:
            await delivery.message.in_progress()
            assert await opener.get(key) == "a kubeconfig"
            await opener.bucket.delete(key)

        hands = Hands(work)
        bury = DeadLetters(publisher).bury_delivery
        async with running(PullWorker(bus, "CMD", "lifecycle", hands, bury, slots=1)):
            assert (await hands.next()).attempt == 1
            await eventually(lambda: _is_free(admin, "lcluster"), what="the slot to be free")
        for bucket in ("ops", "intents", "clusters", "following", "rollouts", "roots"):
            await _written(Bucket(bus, bucket), own=False)
        await _sealer(bus).register("lcluster", "a kubeconfig")
        await Bucket(bus, "catalog").put("lifecycle", b"{}")
        await Bucket(bus, "definitions").get("1_29_7")
        await Bucket(bus, "definitions").put("1_29_7", b"{}")
        await publisher.event(_event("lifecycle", "l1"))
        leases = Leases(Bucket(bus, "leases"), "test", WITHIN)
        for key in ("mesh.uid", "rollout.l1"):
            async with leases.held(key, operation="l1", attempt=1, fence=Fence(WITHIN)):
                pass


async def test_topology_may_do_its_work(stack: Stack) -> None:
    async with connected(stack, "lifecycle") as lifecycle:
        await _sealer(lifecycle).register("tcluster", "a kubeconfig", watching="one that reads")
        await Bucket(lifecycle, "intents").put("tcluster.applied.a", b"{}")
        await Bucket(lifecycle, "following").put("tcluster.a", b"{}")
    async with allowed(stack, "topology") as bus:
        await streams.verify(bus.client, lease_ttl=WITHIN)
        key = subjects.watching_credential("tcluster")
        assert await _opener(bus).get(key) == "one that reads"
        await bus.client.subscribe("live.kv.clusters.>")
        await Bucket(bus, "clusters").keys()
        await Bucket(bus, "clusters").get("tcluster")
        assert await Bucket(bus, "intents").get("tcluster.applied.a") is not None
        leases = Leases(Bucket(bus, "leases"), "test", WITHIN, beats=True)
        fence = Fence(WITHIN)
        async with leases.held("watch.tcluster", operation="t1", attempt=1, fence=fence) as epoch:
            views = Views()
            feed = await Feed.take(bus, views, cluster="tcluster", epoch=epoch, fence=fence)
            feed.fill({"info": {"cluster": {"name": "t"}}})
            await feed.begin()
            await feed.publish(Topic.GRAPH, {"app.nodes": {"a": {"id": "a"}}})
        for stream, subject in (
            ("TOPO", "evt.topology.tcluster.>"),
            ("KV_intents", "$KV.intents.>"),
            ("KV_following", "$KV.following.>"),
            ("KV_leases", "$KV.leases.watch.>"),
        ):
            reader = OrderedReader(bus, stream, subject, 1).messages()
            await anext(reader)
            await reader.aclose()
        histories = Histories(bus, Publisher(bus))
        await histories.store(*kept(report(line("a"), cluster="tcluster")))
        assert await histories.last("tcluster") is not None
        await bus.client.publish("cmd.lifecycle.tcluster.from.topology.t1", b"{}")
        await bus.client.publish("cmd.translator.tcluster.from.topology.t1", b"{}")
        await bus.client.subscribe("ctl.topology.*.*")


async def test_perf_may_do_its_work(stack: Stack) -> None:
    async with allowed(stack, "perf") as bus:
        await streams.verify(bus.client, lease_ttl=WITHIN)
        publisher = Publisher(bus)
        for bucket, is_listed in (("ops", False), ("perf", True), ("baselines", True)):
            await _written(Bucket(bus, bucket), own=is_listed)
        objects = Objects(bus, "perf")
        await objects.put("results/r.json", b"{}" * 200_000, ttl=WITHIN)
        assert await objects.get("results/r.json") == b"{}" * 200_000
        await Bucket(bus, "catalog").put("perf", b"{}")
        await publisher.event(_event("perf", "p1"))
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def answer(message: Msg) -> None:
            heard.put_nowait(message.subject)
            if message.reply:
                await bus.client.publish(message.reply, b"{}")

        await bus.client.subscribe(perf_subjects.control("*", run="p1"), cb=answer)
        await bus.client.request(perf_subjects.control("ready", run="p1"), b"{}", timeout=10)
        await bus.client.publish(perf_subjects.shard_command(run="p1", shard="1-1-1"), b"{}")
        await bus.client.publish("cmd.perf.none.apply.p1", b"{}")
        await bus.client.publish("cmd.lifecycle.pcluster.from.perf.p1-change", b"{}")
        assert await heard.get() == "ctl.perf.p1.ready"


async def test_lifecycle_moves_dead_letters_of_any_service(stack: Stack) -> None:
    letters_failed: asyncio.Queue[DeadLetter] = asyncio.Queue()

    async def fail(letter: DeadLetter, error: AttemptsExhausted) -> None:
        letters_failed.put_nowait(letter)

    async with allowed(stack, "lifecycle") as bus, connected(stack, "admin") as admin:
        letters = DeadLetters(Publisher(bus))
        mover = Mover(letters, fail)
        moving = PullWorker(bus, "ADV", "dlq-mover", mover.handle, letters.bury_delivery, slots=1)
        queue = await Queue(admin, service="topology").create(ack_wait=QUICK, max_deliver=1)
        async with running(moving), running(queue.worker(_dying)):
            await queue.send("arun")
            letter = await asyncio.wait_for(letters_failed.get(), 10)
            assert letter.subject == queue.subject("arun")
            await eventually(lambda: _is_free(admin, "arun"), what="the slot to be free")
        assert await queue.buried() == 1
        await queue.delete()


async def test_services_answer_the_operator(stack: Stack) -> None:
    async def versions(_asked: object) -> dict[str, str]:
        return {"answer": "yes"}

    queries = [Query("versions", "{}", versions)]
    async with (
        allowed(stack, "lifecycle") as bus,
        allowed(stack, "operator") as operator,
        answering(bus, service="lifecycle", description="", queries=queries),
    ):
        # A flush may take another ping's answer for its own, so the first question may be early.
        await eventually(lambda: _is_answered(operator), what="somebody to answer")
        for subject in ("mesh.lifecycle.versions", "$SRV.PING", "$SRV.STATS.mesh-lifecycle"):
            reply = await operator.client.request(subject, b"", timeout=10)
            assert orjson.loads(reply.data)


async def _is_answered(operator: Bus) -> bool:
    with suppress(NoRespondersError):
        await operator.client.request("mesh.lifecycle.versions", b"", timeout=10)
        return True
    return False


def test_every_service_user_has_its_own_inbox() -> None:
    inboxes = [user.inbox.subject for user in USERS]
    assert len(set(inboxes)) == len(USERS)
    for user in USERS:
        assert not [r for r in user.subscribe if r.subject.startswith("_INBOX")]


# --- hands ---------------------------------------------------------------------------------------


def _sealer(bus: Bus) -> Sealer:
    return Sealer(Bucket(bus, "credentials"))


def _opener(bus: Bus) -> Opener:
    return Opener(Bucket(bus, "credentials"))


async def _written(bucket: Bucket, *, own: bool) -> None:
    """Everything that a record may go through; `own` buckets are listed as well."""
    # A worker keeps records of operations on one cluster only.
    key = "akey" if own or bucket.name != "ops" else "akey.acluster"
    revision = await bucket.create(key, b"1")
    await bucket.update(key, b"2", revision=revision)
    found = await bucket.get(key)
    assert found is not None
    assert found.value == b"2"
    await bucket.delete(key)
    await bucket.create(key, b"3")
    await bucket.delete(key)
    if own and bucket.name != "delivery":
        assert key in await bucket.keys()


def _event(service: str, operation: str) -> Event:
    return Event(
        operation=operation,
        kind="istio",
        service=service,
        cluster="acluster",
        phase=Phase.NOTE,
        summary="a step",
    )


async def _dying(_delivery: Delivery) -> None:
    """A worker that ends in the middle of its work."""
    raise Abandon


async def _queued(admin: Bus, cluster: str) -> list[str]:
    answer = await streams.call_api(
        admin.client, "STREAM.INFO.CMD", {"subjects_filter": f"cmd.*.{cluster}.>"}
    )
    return sorted((answer.get("state") or {}).get("subjects") or {})


async def _is_free(admin: Bus, cluster: str) -> bool:
    return await _queued(admin, cluster) == []
