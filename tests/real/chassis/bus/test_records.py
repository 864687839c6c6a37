"""Records: compare-and-swap, deletion, expiry, and what a lost answer must not break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import nats.js.errors
import pytest

from services.chassis.bus import reading, records
from services.chassis.bus.connection import Bus
from services.chassis.bus.records import Bucket, Records, RevisionConflict
from services.chassis.errors import BusUnavailable
from services.chassis.messages import ClusterRecord
from tests.real.chassis.bus.queues import HOSTILE, publish_raw
from tests.testbed.buses import DEFAULT_CONFIG, NatsServer, connected
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually

_MORE_THAN_ONE_ANSWER = 100_010
_AT_ONCE = 2_000
_OF_BEFORE = """
authorization { users = [ { user: one, password: one, permissions: {
  publish: { deny: ["$JS.API.DIRECT.GET.KV_credentials"] }, subscribe: ">"
} } ] }
no_auth_user: one
"""


@pytest.fixture
def bucket(bus: Bus) -> Bucket:
    return Bucket(bus, "credentials")


async def test_put_get_and_overwrite(bucket: Bucket, name: str) -> None:
    assert await bucket.get(name) is None

    first = await bucket.put(name, b"one")
    second = await bucket.put(name, b"two")

    entry = await bucket.get(name)
    assert entry is not None
    assert (entry.value, entry.revision) == (b"two", second)
    assert second > first


async def test_many_are_read_by_one_question(bucket: Bucket, name: str) -> None:
    """The newest of each, with its headers; more than the server names in one answer."""
    keys = [f"{name}.{number}" for number in range(600)]
    for key in keys:
        await bucket.put(key, b"old")
        await bucket.put(key, key.encode(), headers={"Of": key})
    await bucket.delete(keys[7])
    await bucket.put(f"{name}.other", b"nobody asked")

    found = await bucket.get_all([*keys, f"{name}.missing"])

    assert found.keys() == set(keys) - {keys[7]}
    assert all(entry.value.decode() == entry.headers["Of"] == key for key, entry in found.items())
    one = await bucket.get(keys[9])
    assert one is not None
    assert (found[keys[9]].value, found[keys[9]].revision) == (one.value, one.revision)
    assert await bucket.get_all([f"{name}.missing"]) == {}
    assert await bucket.get_all([]) == {}


async def test_a_server_that_refuses_the_one_question_is_asked_for_each(
    own_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose rights are of a version before."""
    own_server.stop()
    own_server.config_text = DEFAULT_CONFIG + _OF_BEFORE
    own_server.start()
    monkeypatch.setattr(reading, "_ANSWER_WITHIN_S", 0.05)
    async with connected(own_server.url) as bus:
        bucket = Bucket(bus, "credentials")
        await bucket.put("one", b"1")
        found = await bucket.get_all(["one", "two"])
    assert {key: entry.value for key, entry in found.items()} == {"one": b"1"}
    assert "Publish Violation" in own_server.process.log.read_text()


async def test_create_refuses_what_is_there(bucket: Bucket, name: str) -> None:
    await bucket.create(name, b"one")

    with pytest.raises(RevisionConflict, match=name):
        await bucket.create(name, b"two")

    entry = await bucket.get(name)
    assert entry is not None
    assert entry.value == b"one"


async def test_of_many_creators_one_wins(bucket: Bucket, name: str) -> None:
    values = [f"creator-{number}".encode() for number in range(20)]

    outcomes = await asyncio.gather(
        *(bucket.create(name, value) for value in values), return_exceptions=True
    )

    won = [value for value, got in zip(values, outcomes, strict=True) if isinstance(got, int)]
    lost = [got for got in outcomes if isinstance(got, RevisionConflict)]
    entry = await bucket.get(name)
    assert entry is not None
    assert [entry.value] == won
    assert len(lost) == len(values) - 1


async def test_update_needs_the_newest_revision(bucket: Bucket, name: str) -> None:
    first = await bucket.create(name, b"one")
    second = await bucket.update(name, b"two", revision=first)

    with pytest.raises(RevisionConflict):
        await bucket.update(name, b"stale", revision=first)

    entry = await bucket.get(name)
    assert entry is not None
    assert (entry.value, entry.revision) == (b"two", second)


async def test_deleted_key_can_be_created_again(bucket: Bucket, name: str) -> None:
    revision = await bucket.create(name, b"one")
    await bucket.delete(name, revision=revision)

    assert await bucket.get(name) is None
    again = await bucket.create(name, b"two")

    assert again > revision
    with pytest.raises(RevisionConflict):
        await bucket.create(name, b"three")


async def test_delete_needs_the_newest_revision(bucket: Bucket, name: str) -> None:
    first = await bucket.create(name, b"one")
    await bucket.update(name, b"two", revision=first)

    with pytest.raises(RevisionConflict):
        await bucket.delete(name, revision=first)

    assert await bucket.get(name) is not None


async def test_whoever_writes_one_key_deletes_no_other(bucket: Bucket, name: str) -> None:
    await bucket.put(f"{name}.kept", b"1")

    with pytest.raises(nats.js.errors.APIError, match="rollup"):
        await bucket.bus.client.jetstream().publish(
            f"$KV.{bucket.name}.{name}.own", b"2", headers={"Nats-Rollup": "all"}
        )

    assert await bucket.get(f"{name}.kept") is not None


@pytest.mark.parametrize("headers", HOSTILE)
async def test_a_value_is_read_whatever_its_headers_say(
    bucket: Bucket, name: str, headers: bytes
) -> None:
    client = bucket.bus.client
    inbox = client.new_inbox()
    stored = await client.subscribe(inbox)
    await publish_raw(bucket.bus, f"$KV.{bucket.name}.{name}", headers, b"", reply=inbox)
    await stored.next_msg(timeout=20)

    entry = await bucket.get(name)

    assert entry is not None
    assert entry.value == b""


async def test_keys_lists_dotted_names(bus: Bus, name: str) -> None:
    bucket = Bucket(bus, "intents")
    await bucket.put(f"{name}.default", b"{}")
    await bucket.put(f"{name}.canary", b"{}")

    keys = await bucket.keys()

    assert [key for key in keys if key.startswith(name)] == [f"{name}.canary", f"{name}.default"]


async def test_what_was_deleted_stays_so_when_the_server_is_killed(
    own_bus: Bus, own_server: NatsServer
) -> None:
    """On its disk values stay that were overwritten, until their block has nothing else."""
    bucket = Bucket(own_bus, "intents")
    names = [f"c.{number}" for number in range(20)]
    await bucket.put("c.stays", b"{}")
    for name in names:
        await bucket.put(name, b"{}")
        await bucket.delete(name)
    await bucket.put("c.last", b"{}")

    own_server.kill()
    own_server.start()

    assert await bucket.get("c.stays") is not None
    assert [await bucket.get(name) for name in names] == [None] * len(names)


@pytest.mark.full
async def test_keys_are_more_than_one_answer_holds(bus: Bus, name: str) -> None:
    bucket = Bucket(bus, "intents")
    wanted = sorted(f"{name}.{number}" for number in range(_MORE_THAN_ONE_ANSWER))
    jetstream = bus.client.jetstream(timeout=60.0)
    for number, key in enumerate(wanted):
        # JetStream drops what comes faster than it stores: now and then its word is waited for.
        publish = jetstream.publish if number % _AT_ONCE == 0 else bus.client.publish
        await publish(f"$KV.intents.{key}", b"{}")
    await jetstream.publish(f"$KV.intents.{wanted[-1]}", b"{}")

    assert await bucket.keys(matching=f"{name}.*") == wanted


async def test_expired_value_is_gone_and_its_key_free(bucket: Bucket, name: str) -> None:
    await bucket.put(name, b"short", ttl=timedelta(seconds=1))
    with pytest.raises(RevisionConflict):
        await bucket.create(name, b"early")

    async def is_gone() -> bool:
        return await bucket.get(name) is None

    await eventually(is_gone, what="the value to expire")

    await bucket.create(name, b"next")
    entry = await bucket.get(name)
    assert entry is not None
    assert entry.value == b"next"


async def test_typed_record_round_trip(bus: Bus, name: str) -> None:
    typed = Records(Bucket(bus, "clusters"), ClusterRecord)
    record = ClusterRecord(cluster=name, name="prod", server="https://127.0.0.1:6443")

    revision = await typed.create(name, record)
    assert await typed.get(name) == (record, revision)
    renamed = record.model_copy(update={"name": "production"})
    second = await typed.update(name, renamed, revision=revision)

    assert await typed.get(name) == (renamed, second)


async def test_values_survive_a_kill(own_server: NatsServer, own_bus: Bus, name: str) -> None:
    bucket = Bucket(own_bus, "ops")
    revision = await bucket.create(name, b"running")

    own_server.kill()
    reading = asyncio.create_task(bucket.get(name))
    await asyncio.to_thread(own_server.start)

    entry = await reading
    assert entry is not None
    assert (entry.value, entry.revision) == (b"running", revision)
    await bucket.update(name, b"done", revision=revision)


async def test_server_that_stays_away_is_told(
    own_server: NatsServer, own_bus: Bus, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(own_bus, "ops", within=timedelta(milliseconds=100))
    monkeypatch.setattr(records, "_TRY_TIMEOUT_S", 0.3)

    own_server.kill()

    with pytest.raises(BusUnavailable, match=f"writing ops/{name}"):
        await bucket.put(name, b"lost")
    with pytest.raises(BusUnavailable, match=f"reading ops/{name}"):
        await bucket.get(name)


async def test_write_whose_answer_was_lost_counts_as_ours(
    server: NatsServer, bucket: Bucket, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_TRY_TIMEOUT_S", 1.0)
    with FaultProxy(server.port) as proxy:
        async with connected(f"nats://{proxy.address}") as bus:
            behind_proxy = Bucket(bus, "credentials")
            async with _answer_lost(proxy, bucket, name):
                created = await behind_proxy.create(name, b"one")
            async with _answer_lost(proxy, bucket, name):
                updated = await behind_proxy.update(name, b"two", revision=created)
            async with _answer_lost(proxy, bucket, name):
                await behind_proxy.delete(name, revision=updated)

    assert await bucket.get(name) is None


@asynccontextmanager
async def _answer_lost(proxy: FaultProxy, bucket: Bucket, key: str) -> AsyncIterator[None]:
    """Cuts the connection when a write in the block is stored and its answer still underway."""
    before = await bucket.get(key)
    # Longer than the server and this test take to see the write.
    proxy.delay(0.2)

    async def is_stored() -> bool:
        return await bucket.get(key) != before

    async def cut() -> None:
        await eventually(is_stored, what="the write to be stored")
        proxy.cut()
        proxy.heal()

    cutting = asyncio.create_task(cut())
    accepted = proxy.accepted_connections
    try:
        yield
    finally:
        await cutting
    assert proxy.accepted_connections > accepted
