"""Pull workers: a durable consumer shared by all replicas, one parked pull for each free slot.

Why not nats-py's `fetch`: a parked fetch hangs over a server restart, and cancelling it loses what
it had collected. Here every pull has an inbox token of its own, idle heartbeats tell a silent
server from a quiet one, and a reconnect wakes all pulls.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.errors import InvalidMessage

_EXPIRES_S = 30.0
_HEARTBEAT_S = 5.0
_MISSED_HEARTBEATS = 2.5
_PAUSE_AFTER_REFUSAL_S = 0.5

log = structlog.get_logger(__name__)


class Abandon(Exception):
    """A handler's word that the message is no longer its own: neither end it nor hand it back."""


class Retry(Exception):
    """A handler's word that the message should come again after `delay`."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__(f"again in {delay.total_seconds()} s")
        self.delay = delay


@dataclass(slots=True)
class Delivery:
    """One message in a worker's hands."""

    message: Msg
    stream_sequence: int
    attempt: int
    """Counts deliveries from 1."""

    @classmethod
    def of(cls, message: Msg) -> Delivery:
        metadata = message.metadata
        return cls(
            message=message,
            stream_sequence=metadata.sequence.stream,
            attempt=metadata.num_delivered or 1,
        )

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.message.headers or {})

    async def acknowledge(self) -> None:
        """Ends the message for good; waits for the server's word."""
        for _ in range(5):
            try:
                await self.message.ack_sync(timeout=2.0)
                return
            except (nats.errors.TimeoutError, nats.errors.Error):
                # A lost answer is harmless: the state of the operation is already terminal.
                await asyncio.sleep(0.2)

    async def retry(self, client: Client, delay: timedelta) -> None:
        nanoseconds = int(delay.total_seconds() * 1e9)
        await client.publish(self.message.reply, b'-NAK {"delay": %d}' % nanoseconds)

    async def terminate(self, client: Client, reason: str) -> None:
        """Ends the message as impossible; the server's advisory carries the reason."""
        await client.publish(self.message.reply, f"+TERM {reason}".encode())


Handler: TypeAlias = Callable[[Delivery], Awaitable[None]]
Burial: TypeAlias = Callable[[Delivery, InvalidMessage], Awaitable[None]]


@dataclass(slots=True)
class PullWorker:
    """Runs `handler` for the messages of one durable consumer, `slots` at a time.

    The handler's return acknowledges; `Retry` and unexpected errors hand the message back;
    `InvalidMessage` calls `bury`, then ends it.
    """

    bus: Bus
    stream: str
    consumer: str
    handler: Handler
    bury: Burial
    slots: int = 8
    _inbox: str = ""
    _parked: dict[str, asyncio.Future[Msg | None]] = field(default_factory=dict)
    _heard: dict[str, float] = field(default_factory=dict)
    _draining: asyncio.Event = field(default_factory=asyncio.Event)
    _serial: int = 0

    async def run(self) -> None:
        """Until `drain`; returns when the messages in hand are done."""
        self._inbox = self.bus.client.new_inbox()
        subscription = await self.bus.client.subscribe(f"{self._inbox}.*", cb=self._arrived)
        forget = self.bus.on_reconnect(self._wake_all)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.slots):
                    group.create_task(self._slot(), name=f"pull-{self.consumer}-{number}")
        finally:
            forget()
            if not self.bus.client.is_closed:
                await subscription.unsubscribe()

    def drain(self) -> None:
        """No new messages from now on."""
        self._draining.set()
        self._wake_all()

    async def _slot(self) -> None:
        while not self._draining.is_set():
            message = await self._pull()
            if message is None:
                continue
            if self._draining.is_set():
                await Delivery.of(message).retry(self.bus.client, timedelta(0))
                return
            await self._handle(Delivery.of(message))

    async def _handle(self, delivery: Delivery) -> None:
        client = self.bus.client
        try:
            await self.handler(delivery)
        except InvalidMessage as error:
            await self.bury(delivery, error)
            await delivery.terminate(client, f"{error.code} {error.summary}")
        except Abandon:
            log.warning("message_abandoned", consumer=self.consumer, attempt=delivery.attempt)
        except Retry as retry:
            await delivery.retry(client, retry.delay)
        except asyncio.CancelledError:
            await delivery.retry(client, timedelta(0))
            raise
        except Exception:
            log.exception("handler_failed", consumer=self.consumer, attempt=delivery.attempt)
            delay = min(2.0**delivery.attempt, 30.0) * random.uniform(0.5, 1.0)
            await delivery.retry(client, timedelta(seconds=delay))
        else:
            await delivery.acknowledge()

    async def _pull(self) -> Msg | None:
        """One message, or None when the pull ended without one."""
        self._serial += 1
        token = str(self._serial)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg | None] = loop.create_future()
        self._parked[token] = future
        self._heard[token] = loop.time()
        try:
            await self._request(token)
            return await self._waited(token, future)
        except nats.errors.Error:
            await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)
            return None
        finally:
            self._parked.pop(token, None)
            self._heard.pop(token, None)

    async def _request(self, token: str) -> None:
        body = {
            "batch": 1,
            "expires": int(_EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        await self.bus.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}",
            orjson.dumps(body),
            reply=f"{self._inbox}.{token}",
        )

    async def _waited(self, token: str, future: asyncio.Future[Msg | None]) -> Msg | None:
        loop = asyncio.get_running_loop()
        while True:
            silent_at = self._heard[token] + _HEARTBEAT_S * _MISSED_HEARTBEATS
            done, _ = await asyncio.wait({future}, timeout=max(0.0, silent_at - loop.time()))
            if done:
                return future.result()
            if loop.time() >= self._heard[token] + _HEARTBEAT_S * _MISSED_HEARTBEATS:
                return None

    async def _arrived(self, message: Msg) -> None:
        token = message.subject.rsplit(".", 1)[-1]
        future = self._parked.get(token)
        status = (message.headers or {}).get("Status")
        if status == "100":
            if token in self._heard:
                self._heard[token] = asyncio.get_running_loop().time()
            return
        if future is None or future.done():
            if status is None and message.reply:
                # A message for a pull that was given up: hand it on at once.
                await self.bus.client.publish(message.reply, b"-NAK")
            return
        if status is None:
            future.set_result(message)
            return
        # Expired or refused: a pause keeps a refusing server from being asked in a tight loop.
        pause = 0.0 if status == "408" else _PAUSE_AFTER_REFUSAL_S
        asyncio.get_running_loop().call_later(pause, _resolve, future)

    def _wake_all(self) -> None:
        for future in list(self._parked.values()):
            _resolve(future)


def _resolve(future: asyncio.Future[Msg | None]) -> None:
    if not future.done():
        future.set_result(None)
