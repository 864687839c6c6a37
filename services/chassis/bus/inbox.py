"""The client's half of a pull consumer: requests for messages, and what comes back on an inbox.

Why not nats-py's `fetch`: a parked fetch hangs over a server restart, and cancelling it loses what
it had collected. Here idle heartbeats tell a silent server from a quiet one, and a reconnect wakes
the pull.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.chassis.bus.connection import Bus

_EXPIRES_S = 30.0
_SILENT_HEARTBEATS = 2.5
_PAUSE_AFTER_REFUSAL_S = 0.5
_LEAVE_WITHIN_S = 2.0
_HEARTBEAT = "100"
_EXPIRED = "408"
_EMPTY = "404"
_ACKNOWLEDGED_AT = "$JS.ACK."


@dataclass(slots=True)
class PullInbox:
    """Keeps up to `batch` messages of one consumer asked for."""

    bus: Bus
    consumer: str
    """`<stream>.<consumer>`."""
    batch: int
    heartbeat_s: float
    hand_back: Callable[[Msg], Awaitable[None]] | None = None
    """Gives a message back that comes for a pull which was given up. None where the consumer
    expects no acknowledgement: such a message is dropped."""
    address: str = ""
    _arrived: asyncio.Queue[Msg | None] = field(default_factory=asyncio.Queue)
    _asked: int = 0
    """Messages that the server still owes."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Listens for the block; on the way out a message that is underway is handed back."""
        client = self.bus.client
        self.address = client.new_inbox()
        subscription = await client.subscribe(self.address, cb=self._take)
        forget = self.bus.on_reconnect(self.wake)
        try:
            yield
        finally:
            forget()
            self._asked = 0
            await self._close(subscription)

    async def next(self, *, waits: bool = True) -> Msg | None:
        """The next message; None when the consumer refused, fell silent, or `wake` was called.

        Without `waits` None also when no message is there now.
        """
        try:
            while True:
                if self._asked + self._arrived.qsize() <= self.batch // 2:
                    await self._request(waits=waits)
                message = await self._within_silence()
                status = _status(message) if message else None
                if message is not None and status == _EXPIRED:
                    self._asked -= _unserved(message, self._asked)
                elif status == _HEARTBEAT:
                    continue
                elif status == _EMPTY and not waits:
                    self._asked = 0
                    return None
                elif message is not None and status is None:
                    return message
                else:
                    break
        except asyncio.CancelledError:
            self._asked = 0
            raise
        except nats.errors.Error:
            status = "no connection"
        self._asked = 0
        if status is not None:
            # A refusing server must not be asked in a tight loop.
            await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)
        return None

    def wake(self) -> None:
        """Gives up what was asked for: `next` returns without a message."""
        if self._asked:
            self._arrived.put_nowait(None)

    async def _request(self, *, waits: bool) -> None:
        asked: dict[str, int | bool] = {"batch": self.batch}
        if waits:
            asked["expires"] = int(_EXPIRES_S * 1e9)
            asked["idle_heartbeat"] = int(self.heartbeat_s * 1e9)
        else:
            asked["no_wait"] = True
        self._asked += self.batch
        await self.bus.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self.consumer}", orjson.dumps(asked), reply=self.address
        )

    async def _within_silence(self) -> Msg | None:
        try:
            async with asyncio.timeout(self.heartbeat_s * _SILENT_HEARTBEATS):
                return await self._arrived.get()
        except TimeoutError:
            return None

    async def _take(self, message: Msg) -> None:
        if _status(message) is not None:
            self._arrived.put_nowait(message)
        elif not message.reply.startswith(_ACKNOWLEDGED_AT):
            return  # not from a stream: everybody who knows the inbox can write to it
        elif self._asked:
            self._asked -= 1
            self._arrived.put_nowait(message)
        elif self.hand_back is not None:
            await self.hand_back(message)

    async def _close(self, subscription: Subscription) -> None:
        client = self.bus.client
        if client.is_closed:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            if not client.is_connected or self.hand_back is None:
                await subscription.unsubscribe()
                return
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await subscription.drain()  # type: ignore[no-untyped-call]
                while not self._arrived.empty():
                    message = self._arrived.get_nowait()
                    if message is not None and message.reply.startswith(_ACKNOWLEDGED_AT):
                        await self.hand_back(message)


def _status(message: Msg) -> str | None:
    """What the server says instead of a message; of a message this header is its sender's."""
    if message.reply.startswith(_ACKNOWLEDGED_AT):
        return None
    return (message.headers or {}).get("Status")


def _unserved(expired: Msg, asked: int) -> int:
    """How many of the messages that were asked for an expired pull leaves unserved."""
    return min(int((expired.headers or {}).get("Nats-Pending-Messages", asked)), asked)
