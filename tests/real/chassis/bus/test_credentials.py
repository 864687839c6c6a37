"""Sealed kubeconfigs: only the holder of the private key reads them, and only while they live."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.credentials import Opener, Sealer, generate_keys
from services.chassis.bus.records import Bucket
from services.chassis.errors import CredentialMissing
from services.chassis.settings import SettingsError
from tests.testbed.buses import NatsServer
from tests.testbed.waiting import eventually


@pytest.fixture
def bucket(bus: Bus) -> Bucket:
    return Bucket(bus, "credentials")


async def test_worker_reads_what_the_gateway_sealed(bucket: Bucket, name: str) -> None:
    public, private = generate_keys()

    await Sealer.of(bucket, public).put(name, "kind: Config # ü", ttl=None)

    assert await Opener.of(bucket, private).get(name) == "kind: Config # ü"


async def test_nothing_readable_reaches_the_server(own_server: NatsServer, own_bus: Bus) -> None:
    public, private = generate_keys()
    canary = secrets.token_hex(16)
    bucket = Bucket(own_bus, "credentials")

    await Sealer.of(bucket, public).put("prod", f"token: {canary}", ttl=None)

    files = [path for path in Path(own_server.store).rglob("*") if path.is_file()]
    stored = b"".join(path.read_bytes() for path in files)
    assert b"$KV.credentials.prod" in stored
    assert canary.encode() not in stored
    assert canary in await Opener.of(bucket, private).get("prod")


async def test_credential_is_gone_after_its_time(bucket: Bucket, name: str) -> None:
    public, private = generate_keys()
    opener = Opener.of(bucket, private)
    await Sealer.of(bucket, public).put(name, "kind: Config", ttl=timedelta(seconds=1))
    assert await opener.get(name)

    async def is_gone() -> bool:
        return await bucket.get(name) is None

    await eventually(is_gone, what="the credential to expire")
    with pytest.raises(CredentialMissing, match=f"no credential {name}"):
        await opener.get(name)


async def test_deleted_credential_is_missing(bucket: Bucket, name: str) -> None:
    public, private = generate_keys()
    await Sealer.of(bucket, public).put(name, "kind: Config", ttl=None)

    await bucket.delete(name)

    with pytest.raises(CredentialMissing):
        await Opener.of(bucket, private).get(name)


async def test_key_of_another_pair_opens_nothing(bucket: Bucket, name: str) -> None:
    (public, _), (_, other_private) = generate_keys(), generate_keys()
    await Sealer.of(bucket, public).put(name, "kind: Config", ttl=None)

    with pytest.raises(CredentialMissing, match="cannot be opened") as refused:
        await Opener.of(bucket, other_private).get(name)

    assert "two halves of one key pair" in refused.value.remedy


async def test_changed_ciphertext_opens_nothing(bucket: Bucket, name: str) -> None:
    public, private = generate_keys()
    await Sealer.of(bucket, public).put(name, "kind: Config", ttl=None)
    entry = await bucket.get(name)
    assert entry is not None

    await bucket.put(name, entry.value[:-1] + bytes([entry.value[-1] ^ 1]))

    with pytest.raises(CredentialMissing, match="cannot be opened"):
        await Opener.of(bucket, private).get(name)


@pytest.mark.parametrize("key", [None, "", "not base64!", "c2hvcnQ="])
async def test_missing_or_broken_key_is_named_at_the_start(bucket: Bucket, key: str | None) -> None:
    with pytest.raises(SettingsError, match="MESHBUS_SEALING_PUBLIC_KEY"):
        Sealer.of(bucket, key)
    with pytest.raises(SettingsError, match="MESHBUS_SEALING_PRIVATE_KEY"):
        Opener.of(bucket, key)
