"""The events of operations, read from the stream EVT once for all browsers of this process.

An event's number is its place in the stream, so that a browser that was away, at this replica or at
another one, says where it was and gets what it lacks.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.reading import OrderedReader, StoredMessage
from services.chassis.bus.streams import EVT, call_api
from services.chassis.errors import BusUnavailable, InvalidMessage, MeshbusError
from services.chassis.messages import Event
from services.topology.feed.followers import Numbered

_KEPT_AT_THE_START = 1_000
"""Read from before the start: browsers of a replica that was replaced go on without a gap."""
_AGAIN_S = 1.0
TOPIC = "operations"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Told:
    """Fills a topic with the events of all operations."""

    bus: Bus
    topic: Numbered

    async def run(self) -> None:
        """Reads until cancelled."""
        renewed = asyncio.Event()
        forget = self.bus.on_reconnect(renewed.set)
        try:
            while True:
                try:
                    await self._while_the_same(renewed)
                except MeshbusError as error:
                    log.info("events_unread", reason=error.summary)
                    await asyncio.sleep(_AGAIN_S)
        finally:
            forget()

    async def _while_the_same(self, renewed: asyncio.Event) -> None:
        """Reads for as long as the stream is the one that it was: a server that came back without
        its disk has another one, which begins at 1."""
        renewed.clear()
        last = await self._last()
        if last < self.topic.last:
            # What it has already is new to everybody.
            self.topic.begin(max(0, last - _KEPT_AT_THE_START))
        start = max(1, self.topic.last + 1, last - _KEPT_AT_THE_START)
        reading = asyncio.create_task(self._read(start), name="read-events")
        try:
            while not reading.done():
                waiting = asyncio.create_task(renewed.wait(), name="reconnected")
                await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                renewed.clear()
                if not reading.done() and await self._last() < self.topic.last:
                    return
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, start: int) -> None:
        reader = OrderedReader(self.bus, EVT.name, "evt.*.*.*", start)
        async with aclosing(reader.messages()) as messages:
            async for message in messages:
                self._take(message)

    def _take(self, message: StoredMessage) -> None:
        try:
            event = envelopes.decode(Event, message.body, message.headers)
        except InvalidMessage as error:
            log.warning("event_unreadable", sequence=message.sequence, reason=error.summary)
            return
        # Laid out anew: what somebody published might have line breaks, which are frames here.
        text = event.model_dump_json().encode()
        frame = b"event: operation\nid: ~%d\ndata: %b\n\n" % (message.sequence, text)
        self.topic.tell(message.sequence, frame)

    async def _last(self) -> int:
        answer = await call_api(self.bus.client, f"STREAM.INFO.{EVT.name}", {})
        if "error" in answer:
            raise BusUnavailable(f"the stream {EVT.name} cannot be read")
        return int(answer["state"]["last_seq"])
