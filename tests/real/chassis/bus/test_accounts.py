"""What NATS itself would send for a user, to a subject of that user's choice: it goes nowhere.

An asker names the subject for the answer, and NATS does not ask whether he may publish there. Each
user asks here for everything that its rights let it ask, and names what only others may write.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import orjson
import pytest

from deploy.nats.accounts import accounts_of
from deploy.nats.permissions import ACCOUNT, USERS, User, people, regional
from services.chassis.bus import streams, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.streams import Region
from services.chassis.messages import Event, Phase
from services.chassis.policy import read_policy
from tests.testbed.regions import REGION, RegionalStack
from tests.testbed.stored import bus_of as connected

[PERSON] = people(
    read_policy("people: {ana: {groups: [sre]}}\nrules: [{groups: [sre], events: all}]\n")
)
LINK = regional("lifecycle", REGION)
SUSPECTS = [user for user in (*USERS, PERSON, LINK) if user.name not in ("admin", "system")]

SPARE = "SPARE"
FORGED = "forged"
NEW_STREAM = orjson.dumps({"name": "FORGED", "subjects": [f"{FORGED}.>"]})
"""What a request to make a stream holds: the answer to a read of it is such a request."""
BODIES = (
    b"",
    NEW_STREAM,
    b'{"batch":1,"no_wait":true}',
    b'{"seq":1}',
    b'{"seq":1,"batch":9,"next_by_subj":">"}',
)


def _targets(mark: str) -> list[str]:
    """What is worth being written, under a name of its own for each asker."""
    return [
        f"$JS.API.STREAM.DELETE.{SPARE}",
        f"$JS.API.STREAM.PURGE.{SPARE}",
        "$JS.API.STREAM.CREATE.FORGED",
        f"cmd.lifecycle.{mark}.apply.{mark}",
        f"cmd.lifecycle.{mark}.mesh",
        f"evt.lifecycle.{mark}.{mark}",
        *(f"audit.{service}" for service in streams.AUDITED),
        f"dlq.{mark}",
        f"$KV.ops.{mark}",
        f"$KV.intents.{mark}.applied.a",
        f"$KV.following.{mark}.a",
        f"$KV.rollouts.rollout.{mark}",
        f"$KV.definitions.{mark}",
        f"$KV.credentials.cluster.{mark}",
    ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegionalStack]:
    folder = tmp_path_factory.mktemp("accounts")
    stack = RegionalStack(folder, people=[PERSON], is_taken_over=True)
    try:
        stack.start()
        stack.run_init_job()
        yield stack
    finally:
        stack.stop()


def _asking(stack: RegionalStack, user: User) -> AbstractAsyncContextManager[Bus]:
    """The user's connection; what stands for others is a region's server, and all behind it."""
    return stack.bus_behind(user.stands_for) if user.stands_for else connected(stack, user.name)


@pytest.mark.parametrize("user", SUSPECTS, ids=lambda user: user.name)
async def test_an_answer_goes_nowhere_that_its_asker_may_not_write(
    user: User, stack: RegionalStack
) -> None:
    targets = [
        t for t in _targets(user.name) if not any(_covers(r.subject, t) for r in user.publish)
    ]
    async with connected(stack, "admin") as admin, _asking(stack, user) as bus:
        await streams.call_api(
            admin.client, f"STREAM.CREATE.{SPARE}", {"name": SPARE, "subjects": ["$KV.spare.>"]}
        )
        await admin.client.jetstream().publish("$KV.spare.a", b"kept")
        before = await _settled(admin)
        planted = [_concrete(right.subject) for right in user.publish]
        for subject in planted:
            # What it may write anyway, where a read of its own would find it.
            if not subject.startswith(("$JS.", "$SRV.", "$SYS.")):
                await bus.client.publish(subject, NEW_STREAM)
        asked = [
            *planted,
            *(
                f"$JS.API.DIRECT.GET.{stream}.{subject}"
                for stream in before
                for subject in planted
                if any(
                    _covers(r.subject, f"$JS.API.DIRECT.GET.{stream}.{subject}")
                    for r in user.publish
                )
            ),
        ]
        for subject in asked:
            for target in targets:
                for body in BODIES if subject.startswith("$JS.API.") else BODIES[:2]:
                    await bus.client.publish(subject, body, reply=target)
        for target in targets:
            await bus.client.publish(target, NEW_STREAM)
        await bus.client.flush()
        # The server takes one connection's messages in their order, and answers this one last.
        await streams.call_api(bus.client if user.stands_for else admin.client, "STREAM.NAMES", {})
        after = await _settled(admin)
    assert after.keys() == before.keys()
    assert after[SPARE] == before[SPARE]
    assert set(before[SPARE]) == {"$KV.spare.a"}
    there = Counter[str]()
    for held in after.values():
        there.update(held)
    for held in before.values():
        there.subtract(held)
    assert [target for target in targets if there[target]] == []


async def test_who_fills_an_audit_pushes_out_nobody_elses(stack: RegionalStack) -> None:
    async with connected(stack, "gateway") as gateway:
        await gateway.client.jetstream().publish("audit.gateway", b"who came first")
    async with connected(stack, "perf") as perf:
        filling = perf.client.jetstream()
        for _ in range(70):
            await filling.publish("audit.perf", b"x" * 1_000_000)
    async with connected(stack, "admin") as admin:
        reading = admin.client.jetstream()
        own = await reading.stream_info(streams.audit_stream("perf"))
        kept = await reading.get_last_msg("AUDIT", "audit.gateway")
    assert own.state.messages < 70
    assert kept.data == b"who came first"


async def test_nobody_takes_the_place_of_anothers_message(stack: RegionalStack) -> None:
    """A stream drops what has an id that it has seen, whoever sent that."""
    event = Event(
        operation="guessed",
        kind="manifest",
        cluster="acluster",
        service="lifecycle",
        phase=Phase.DONE,
        summary="done",
        attempt=1,
        sequence=1,
    )
    name = "lifecycle.guessed.acluster.1.1"
    async with connected(stack, "perf") as perf, connected(stack, "lifecycle") as lifecycle:
        for guess in (name, perf.message_id(name)):
            await perf.client.jetstream().publish(
                "evt.perf.acluster.guess", b"{}", headers={"Nats-Msg-Id": guess}
            )
        assert not (await Publisher(lifecycle).event(event)).duplicate
        async with connected(stack, "lifecycle") as replica:
            assert (await Publisher(replica).event(event)).duplicate


async def test_a_regions_key_takes_and_hears_its_regions_commands_alone(
    stack: RegionalStack,
) -> None:
    """Its server keeps it from nothing; the others do."""
    regions = [Region(REGION, ("lifecycle",)), Region("west", ("lifecycle",))]
    known = ("", REGION, "west")
    here, there = connected(stack, "lifecycle"), stack.bus_behind("lifecycle")
    async with connected(stack, "admin") as admin, here as worker, there as thief:
        waits = timedelta(seconds=30)
        await streams.call_api(admin.client, "STREAM.PURGE.CMD", {})
        for region in known:
            # Other tests have asked them for messages, and left some.
            name = subjects.consumer("lifecycle", region)
            await streams.call_api(admin.client, f"CONSUMER.DELETE.CMD.{name}", {})
        await streams.reconcile(admin.client, ack_wait=waits, lease_ttl=waits * 2, regions=regions)
        sniffed = await thief.client.subscribe("_INBOX_lifecycle.>")
        taken = {region: await thief.client.subscribe(thief.client.new_inbox()) for region in known}
        for region in known:
            command = subjects.mesh_command(service="lifecycle", cluster="taken", region=region)
            await admin.client.jetstream().publish(command, b"{}")
            await thief.client.publish(_next(region), b'{"batch": 1}', reply=taken[region].subject)
        await taken[REGION].next_msg(timeout=30)
        # What the worker is given passes the region's server after what the thief has asked for.
        inbox = worker.client.new_inbox()
        own = await worker.client.subscribe(inbox)
        await worker.client.publish(_next(""), b'{"batch": 1}', reply=inbox)
        assert (await own.next_msg(timeout=30)).subject == "cmd.lifecycle.taken.mesh"
        await streams.call_api(thief.client, "STREAM.NAMES", {})
        assert sniffed.pending_msgs == 0
        for one in taken.values():
            # At most the word that nobody is there to be asked.
            while one.pending_msgs:
                assert ((await one.next_msg()).headers or {}).get("Status") == "503"
        left = await streams.call_api(admin.client, "CONSUMER.INFO.CMD.lifecycle_at_west", {})
        assert (left["num_pending"], left["num_ack_pending"]) == (1, 0)
        await streams.call_api(admin.client, "STREAM.PURGE.CMD", {})


def _next(region: str) -> str:
    return f"$JS.API.CONSUMER.MSG.NEXT.CMD.{subjects.consumer('lifecycle', region)}"


def test_nobody_but_the_administrator_chooses_where_a_consumer_delivers() -> None:
    for user in (*USERS, PERSON):
        if user.name != "admin":
            told = [r.subject for r in user.publish]
            assert not [s for s in told if "CONSUMER.CREATE" in s or "DURABLE" in s], user.name


def test_everybody_is_alone_in_an_account() -> None:
    accounts = accounts_of([*USERS, PERSON])
    assert all(len(account.users) == 1 for account in accounts)
    [streams_account] = [account for account in accounts if account.name == ACCOUNT]
    assert [user.name for user in streams_account.users] == ["admin"]
    [worker] = [one for one in accounts_of([*USERS, LINK]) if one.name == LINK.stands_for]
    assert [user.name for user in worker.users] == [LINK.stands_for, LINK.name]
    # What the administrator asks; nothing else comes to a service from where the streams are.
    told = {one.subject.split(".")[0] for one in streams_account.imports}
    assert told == {"mesh", "$SRV"}


def _concrete(pattern: str) -> str:
    return re.sub(r"[*>]", FORGED, pattern)


def _covers(pattern: str, subject: str) -> bool:
    told, wanted = pattern.split("."), subject.split(".")
    for place, token in enumerate(told):
        if token == ">":
            return len(wanted) > place
        if place >= len(wanted) or token not in ("*", wanted[place]):
            return False
    return len(told) == len(wanted)


async def _settled(admin: Bus) -> dict[str, dict[str, int]]:
    """The streams once nothing comes any more: what crosses accounts is stored by and by, whoever
    asks meanwhile."""
    state = await _state(admin)
    while (later := await _state(admin)) != state:
        state = later
    return state


async def _state(admin: Bus) -> dict[str, dict[str, int]]:
    """Each stream with the number of messages that it holds of each subject."""
    names = (await streams.call_api(admin.client, "STREAM.NAMES", {}))["streams"]
    found = {}
    for name in names:
        told = await streams.call_api(admin.client, f"STREAM.INFO.{name}", {"subjects_filter": ">"})
        found[name] = told["state"].get("subjects") or {}
    return found
