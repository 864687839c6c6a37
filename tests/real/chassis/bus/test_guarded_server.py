"""The shipped configuration with TLS and an encrypted store, against the real server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.nats.config import Server, render
from deploy.nats.keys import UserKey
from deploy.nats.permissions import USERS
from services.chassis.bus import streams
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.records import Bucket
from services.chassis.settings import ChassisSettings, SettingsError
from tests.testbed import loopback
from tests.testbed.buses import NatsServer
from tests.testbed.pki import Authority

PLAIN = Server(store=None)
ENCRYPTED = Server(store=None, cipher="chachapoly")


@dataclass(slots=True)
class Guarded:
    """One server whose configuration is changed over its life, with a store that stays."""

    folder: Path
    nkeys: dict[str, UserKey] = field(
        default_factory=lambda: {user.name: UserKey.fresh() for user in USERS}
    )
    authority: Authority = field(default_factory=lambda: Authority("an authority"))

    @property
    def ca(self) -> Path:
        file = self.folder / "ca.crt"
        file.write_bytes(self.authority.certificate_pem)
        return file

    def with_tls(self, server: Server, *, asks: bool = False) -> Server:
        self.authority.issue_server("nats", [loopback.HOST]).write(self.folder, "server")
        return replace(
            server,
            tls_certificate=str(self.folder / "server.crt"),
            tls_key=str(self.folder / "server.key"),
            tls_client_ca=str(self.ca) if asks else "",
        )

    def server(self, server: Server, *, store_key: str = 'key: "a-key"') -> NatsServer:
        """Not started; a second one takes over the first one's store."""
        public = {name: key.public for name, key in self.nkeys.items()}
        config = render(public, server=server, store_key=store_key)
        return NatsServer(self.folder / "nats", config=config)

    @asynccontextmanager
    async def connected(self, server: NatsServer, **settings: Path) -> AsyncIterator[Bus]:
        chosen = ChassisSettings(
            nats_url=server.url, nats_seed=SecretStr(self.nkeys["admin"].seed)
        ).model_copy(update=settings)
        async with asyncio.timeout(20):
            bus = await connect(chosen, service="admin")
        try:
            yield bus
        finally:
            await bus.close()

    def stored(self) -> bytes:
        files = (self.folder / "nats" / "store").rglob("*")
        return b"".join(path.read_bytes() for path in files if path.is_file())


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


async def _apply(bus: Bus) -> None:
    await streams.reconcile(
        bus.client, ack_wait=timedelta(seconds=1), lease_ttl=timedelta(seconds=1)
    )


async def test_the_files_of_an_encrypted_store_say_nothing(guarded: Guarded) -> None:
    canary = secrets.token_hex(16)
    with guarded.server(ENCRYPTED) as server:
        async with guarded.connected(server) as bus:
            await _apply(bus)
            await Bucket(bus, "ops").put("a", canary.encode())
    stored = guarded.stored()
    assert len(stored) > 1000
    assert canary.encode() not in stored
    assert b"$KV.ops" not in stored


async def test_encryption_is_turned_on_without_a_loss(guarded: Guarded) -> None:
    """The key is not changed here: with `prev_key` the server (2.15) loses its consumers' state."""
    canary = secrets.token_hex(16)
    for number, server in enumerate((PLAIN, ENCRYPTED, ENCRYPTED)):
        with guarded.server(server) as running:
            async with guarded.connected(running) as bus:
                await _apply(bus)
                bucket = Bucket(bus, "ops")
                for earlier in range(number):
                    entry = await bucket.get(f"k{earlier}")
                    assert entry is not None, f"{number}: what was stored in step {earlier} is lost"
                    assert entry.value == canary.encode()
                await bucket.put(f"k{number}", canary.encode())


async def test_nothing_is_said_in_clear_to_a_server_with_tls(guarded: Guarded) -> None:
    with guarded.server(guarded.with_tls(ENCRYPTED)) as server:
        async with guarded.connected(server, nats_ca=guarded.ca) as bus:
            await _apply(bus)
            assert await bus.rtt_s() < 5


async def test_a_server_that_asks_for_certificates_gets_them(guarded: Guarded) -> None:
    guarded.authority.issue_client("meshbus").write(guarded.folder, "client")
    with guarded.server(guarded.with_tls(PLAIN, asks=True)) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2), guarded.connected(server, nats_ca=guarded.ca):
                pass
        async with guarded.connected(
            server,
            nats_ca=guarded.ca,
            nats_certificate=guarded.folder / "client.crt",
            nats_key=guarded.folder / "client.key",
        ) as bus:
            assert await bus.rtt_s() < 5


@pytest.mark.parametrize("info", [b"{}", b'{"tls_required": false, "nonce": "n"}'])
async def test_a_server_that_denies_tls_learns_nothing(guarded: Guarded, info: bytes) -> None:
    """Somebody between a service and NATS who strips TLS would get a signature that logs in."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + info + b"\r\n")
        heard.put_nowait(await reader.read(1000))
        writer.close()

    listening = await asyncio.start_server(hostile, loopback.HOST, 0)
    port = listening.sockets[0].getsockname()[1]
    settings = ChassisSettings(
        nats_url=f"nats://{loopback.HOST}:{port}",
        nats_seed=SecretStr(UserKey.fresh().seed),
        nats_ca=guarded.ca,
    )
    async with listening:
        connecting = asyncio.create_task(connect(settings, service="admin"))
        said = [await asyncio.wait_for(heard.get(), 10) for _ in range(2)]
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
    assert said == [b"", b""]


@pytest.mark.parametrize("missing", ["nats_ca", "nats_certificate"])
async def test_files_that_cannot_be_read_are_named(guarded: Guarded, missing: str) -> None:
    settings = ChassisSettings(nats_ca=guarded.ca).model_copy(
        update={missing: guarded.folder / "missing"}
    )
    with pytest.raises(SettingsError, match="MESHBUS_NATS_CA"):
        await connect(settings, service="admin")
