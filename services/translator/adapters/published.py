"""Definitions from the bus, as lifecycle publishes them: nothing has to be shared but NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.bus.records import Bucket
from services.chassis.bus.streams import live
from services.chassis.errors import InvalidMessage, MeshbusError, SchemasMissing
from services.chassis.kube.definitions import BUCKET, key_of, unpacked, version_of
from services.translator.adapters.distributions import gateway_api_texts
from services.translator.definitions.schemas import Schemas
from services.translator.istio.versions import newest_first

_SUBJECT = live(f"$KV.{BUCKET}.")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Published:
    """The versions in the bucket; implements `work.Definitions`."""

    bucket: Bucket
    gateway_api: Path | None
    _known: set[str] = field(default_factory=set)
    _read: dict[str, asyncio.Task[Schemas]] = field(default_factory=dict)

    def versions(self) -> list[str]:
        """Versions with definitions, newest first."""
        return newest_first(self._known)

    async def schemas(self, version: str) -> Schemas:
        """The definitions of one version; raises `SchemasMissing`."""
        if version not in self._known:
            # What was published while nobody listened, as in a reconnection.
            await self.load()
        if version not in self._known:
            raise SchemasMissing(
                f"there are no definitions of Istio {version[:64]}; "
                f"available: {', '.join(self.versions()) or 'none'}"
            )
        task = self._read.get(version)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._load(version), name="definitions")
            self._read[version] = task
        # One caller that goes must not take the reading from the others.
        return await asyncio.shield(task)

    async def load(self) -> None:
        """Looks which versions there are; raises `BusUnavailable`."""
        self._known |= {version_of(key) for key in await self.bucket.keys()}

    def changed(self, version: str) -> None:
        """A version came, or its definitions are others now."""
        self._known.add(version)
        self._read.pop(version, None)

    def reconnected(self) -> None:
        """What came meanwhile was not heard."""
        self._read.clear()

    async def _load(self, version: str) -> Schemas:
        entry = await self.bucket.get(key_of(version))
        if entry is None:
            self._known.discard(version)
            raise SchemasMissing(f"the definitions of Istio {version} are gone")
        try:
            return await asyncio.to_thread(self._schemas, entry.value)
        except InvalidMessage as error:
            raise SchemasMissing(
                f"the definitions of Istio {version} cannot be used: {error.summary}"
            ) from None
        except OSError as error:
            raise SchemasMissing(
                f"the definitions of the Gateway API cannot be read: {error.strerror}"
            ) from None

    def _schemas(self, value: bytes) -> Schemas:
        return Schemas.read([unpacked(value).text, *gateway_api_texts(self.gateway_api)])


@asynccontextmanager
async def followed_definitions(bus: Bus, gateway_api: Path | None) -> AsyncIterator[Published]:
    """The bucket's definitions, kept up for the block: writing a key is a message that plain
    subscribers get as well."""
    published = Published(Bucket(bus, BUCKET), gateway_api)

    async def changed(message: Msg) -> None:
        published.changed(version_of(message.subject.removeprefix(_SUBJECT)))

    subscription = await bus.client.subscribe(f"{_SUBJECT}>", cb=changed)
    # A subscription is not acknowledged; what is published after the flush, arrives.
    await bus.client.flush()
    forget = bus.on_reconnect(published.reconnected)
    try:
        await published.load()
    except MeshbusError as error:
        log.warning("definitions_not_listed", reason=error.summary)
    try:
        yield published
    finally:
        forget()
        if not bus.client.is_closed:
            await subscription.unsubscribe()
