"""Sealed kubeconfigs: only the service that uses one reads it, and only while it lives."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.local.households import Household
from services.chassis.bus.connection import Bus
from services.chassis.bus.credentials import Opener, Sealer
from services.chassis.bus.records import Bucket
from services.chassis.bus.subjects import (
    operation_credential,
    registered_credential,
    watching_credential,
)
from services.chassis.errors import CredentialMissing
from tests.testbed.buses import NatsServer
from tests.testbed.waiting import eventually


def bucket_of(bus: Bus, service: str, household: Household) -> Bucket:
    """The bucket over a connection that has the service's keys."""
    return Bucket(replace(bus, keys=household.keys(service)), "credentials")


@pytest.fixture
def sealer(bus: Bus, household: Household) -> Sealer:
    return Sealer(bucket_of(bus, "gateway", household))


@pytest.fixture
def lifecycle(bus: Bus, household: Household) -> Opener:
    return Opener(bucket_of(bus, "lifecycle", household))


@pytest.fixture
def topology(bus: Bus, household: Household) -> Opener:
    return Opener(bucket_of(bus, "topology", household))


@pytest.fixture
def household() -> Household:
    return Household()


async def test_worker_reads_what_the_gateway_sealed(
    sealer: Sealer, lifecycle: Opener, name: str
) -> None:
    await sealer.put(name, "kind: Config # ü", ttl=None)

    assert await lifecycle.get(name) == "kind: Config # ü"


async def test_nothing_readable_reaches_the_server(
    own_server: NatsServer, own_bus: Bus, household: Household
) -> None:
    canary = secrets.token_hex(16)

    await Sealer(bucket_of(own_bus, "gateway", household)).register("prod", f"token: {canary}")

    files = [path for path in Path(own_server.store).rglob("*") if path.is_file()]
    stored = b"".join(path.read_bytes() for path in files)
    assert b"$KV.credentials.cluster.prod" in stored
    assert b"$KV.credentials.watch.prod" in stored
    assert canary.encode() not in stored
    opener = Opener(bucket_of(own_bus, "lifecycle", household))
    assert canary in await opener.get(registered_credential("prod"))


async def test_each_opens_its_own_of_a_registered_cluster(
    sealer: Sealer, lifecycle: Opener, topology: Opener, name: str
) -> None:
    await sealer.register(name, "may write", watching="may read")

    assert await lifecycle.get(registered_credential(name)) == "may write"
    assert await topology.get(watching_credential(name)) == "may read"
    for opener, key in (
        (topology, registered_credential(name)),
        (lifecycle, watching_credential(name)),
    ):
        with pytest.raises(CredentialMissing, match="cannot be opened"):
            await opener.get(key)


async def test_a_cluster_without_a_reading_account_is_watched_by_the_other(
    sealer: Sealer, topology: Opener, name: str
) -> None:
    await sealer.register(name, "may write")

    assert await topology.get(watching_credential(name)) == "may write"
    await sealer.deregister(name)
    with pytest.raises(CredentialMissing):
        await topology.get(watching_credential(name))


async def test_an_operations_credential_is_looked_for_again(
    sealer: Sealer, lifecycle: Opener, name: str
) -> None:
    """A server that has come back answers before it has what was stored meanwhile."""
    key = operation_credential(name, "acluster")
    reading = asyncio.create_task(lifecycle.get(key))
    assert await lifecycle.bucket.get(key) is None
    await sealer.put(key, "kind: Config", ttl=None)
    assert await reading == "kind: Config"
    await sealer.bucket.delete(key)
    with pytest.raises(CredentialMissing):
        await lifecycle.get(key)


async def test_credential_is_gone_after_its_time(
    sealer: Sealer, lifecycle: Opener, name: str
) -> None:
    await sealer.put(name, "kind: Config", ttl=timedelta(seconds=1))
    assert await lifecycle.get(name)

    async def is_gone() -> bool:
        return await sealer.bucket.get(name) is None

    await eventually(is_gone, what="the credential to expire")
    with pytest.raises(CredentialMissing, match=f"no credential {name}"):
        await lifecycle.get(name)


async def test_deleted_credential_is_missing(sealer: Sealer, lifecycle: Opener, name: str) -> None:
    await sealer.put(name, "kind: Config", ttl=None)

    await sealer.bucket.delete(name)

    with pytest.raises(CredentialMissing):
        await lifecycle.get(name)


async def test_key_of_another_pair_opens_nothing(sealer: Sealer, bus: Bus, name: str) -> None:
    await sealer.put(name, "kind: Config", ttl=None)

    with pytest.raises(CredentialMissing, match="cannot be opened") as refused:
        await Opener(bucket_of(bus, "lifecycle", Household())).get(name)

    assert "the former key beside the new one" in refused.value.remedy


async def test_a_key_that_is_being_changed_opens_what_came_before_and_after(
    bus: Bus, sealer: Sealer, household: Household, name: str
) -> None:
    await sealer.put(f"{name}-before", "kind: Config # before", ttl=None)
    household.renew("lifecycle")
    changed = Sealer(bucket_of(bus, "gateway", household))
    await changed.put(f"{name}-after", "kind: Config # after", ttl=None)

    lifecycle = Opener(bucket_of(bus, "lifecycle", household))

    assert await lifecycle.get(f"{name}-before") == "kind: Config # before"
    assert await lifecycle.get(f"{name}-after") == "kind: Config # after"


async def test_changed_ciphertext_opens_nothing(
    sealer: Sealer, lifecycle: Opener, name: str
) -> None:
    await sealer.put(name, "kind: Config", ttl=None)
    entry = await sealer.bucket.get(name)
    assert entry is not None

    await sealer.bucket.put(name, entry.value[:-1] + bytes([entry.value[-1] ^ 1]))

    with pytest.raises(CredentialMissing, match="cannot be opened"):
        await lifecycle.get(name)
