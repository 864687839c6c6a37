"""The events of operations as browsers get them: in order, once, over restarts of NATS."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.chassis.bus import streams
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.chassis.messages.events import Phase
from services.topology.adapters.console.told import TOPIC, Told
from services.topology.feed.followers import Listener, Numbered
from tests.real.topology.samples import event
from tests.testbed.bus_fixtures import ACK_WAIT, LEASE_TTL
from tests.testbed.buses import NatsServer, connected
from tests.testbed.waiting import eventually


class Browser:
    """What one listener has got, as ids and summaries."""

    def __init__(self, topic: Numbered, after: int | None = None) -> None:
        self.topic = topic
        self.listener: Listener = topic.listen(asyncio.Event(), after=after)
        self.text = b""

    async def until(self, words: bytes) -> None:
        def has() -> bool:
            self.text += self.topic.take(self.listener)
            return words in self.text

        await eventually(has, what=words.decode())


@asynccontextmanager
async def telling(bus: Bus) -> AsyncIterator[Numbered]:
    topic = Numbered(TOPIC)
    task = asyncio.create_task(Told(bus, topic).run(), name="told")
    try:
        yield topic
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


_NUMBERS = itertools.count(1)


async def tell(bus: Bus, summary: str) -> None:
    await Publisher(bus).event(event("op", Phase.NOTE, next(_NUMBERS), summary=summary))


async def test_events_come_in_order_over_a_restart_and_a_new_stream(
    own_server: NatsServer, own_bus: Bus
) -> None:
    for number in range(3):
        await tell(own_bus, f"before {number}")
    async with telling(own_bus) as topic:
        await eventually(lambda: topic.last == 3, what="what was there before")
        browser = Browser(topic)
        await tell(own_bus, "first\\n\\nevent: forged")
        await browser.until(b"first")
        assert browser.text.count(b"event: ") == 2, "a text has no frames in it"
        assert b"before" not in browser.text
        away = Browser(topic, after=2)
        await away.until(b"first")
        assert away.text.index(b"before 2") < away.text.index(b"first")

        own_server.kill()
        own_server.start()
        await tell(own_bus, "after a restart")
        await browser.until(b"after a restart")
        assert b"missed" not in browser.text

        own_server.kill()
        own_server.remove_store()
        own_server.start()
        async with connected(own_server.url) as admin:
            await streams.reconcile(admin.client, ack_wait=ACK_WAIT, lease_ttl=LEASE_TTL)
            await tell(admin, "of another stream")
        await browser.until(b"of another stream")
        assert b"event: missed" in browser.text
        assert topic.last == 1
