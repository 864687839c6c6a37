"""Pull workers: a durable consumer shared by all replicas, one parked pull while a slot is free.

Why not nats-py's `fetch`: a parked fetch hangs over a server restart, and cancelling it loses what
it had collected. Here idle heartbeats tell a silent server from a quiet one, and a reconnect wakes
the pull.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.chassis.bus.connection import Bus
from services.chassis.errors import InvalidMessage

_EXPIRES_S = 30.0
_HEARTBEAT_S = 5.0
_SILENCE_S = 12.5
_PAUSE_AFTER_REFUSAL_S = 0.5
_LEAVE_WITHIN_S = 2.0
_EXPIRED = "408"
_ACKNOWLEDGED_AT = "$JS.ACK."
_PULL = orjson.dumps(
    {
        "batch": 1,
        "expires": int(_EXPIRES_S * 1e9),
        "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
    }
)

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


@asynccontextmanager
async def kept(delivery: Delivery, *, ack_wait: timedelta) -> AsyncIterator[None]:
    """Keeps a message from other workers while it is worked on for longer than `ack_wait`.

    For work that does no harm when somebody else does it as well: a missed beat is only logged.
    """

    async def beat() -> None:
        while True:
            await asyncio.sleep(ack_wait.total_seconds() / 3)
            try:
                await delivery.message.in_progress()
            except (nats.errors.Error, OSError) as error:
                log.warning("heartbeat_missed", reason=type(error).__name__)

    beating = asyncio.create_task(beat(), name="heartbeat")
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


Handler: TypeAlias = Callable[[Delivery], Awaitable[None]]
Burial: TypeAlias = Callable[[Delivery, InvalidMessage], Awaitable[None]]


@dataclass(slots=True)
class _Pull:
    """One parked pull at a time, on an inbox of its own."""

    client: Client
    subject: str
    """Of the consumer's MSG.NEXT request."""
    inbox: str = ""
    _parked: asyncio.Future[Msg | None] | None = None
    _heard: float = 0.0

    async def open(self) -> Subscription:
        self.inbox = self.client.new_inbox()
        return await self.client.subscribe(self.inbox, cb=self._arrived)

    async def next(self) -> Msg | None:
        """One message, or None when the pull ended without one."""
        loop = asyncio.get_running_loop()
        self._parked = loop.create_future()
        self._heard = loop.time()
        try:
            await self.client.publish(self.subject, _PULL, reply=self.inbox)
            return await self._waited(self._parked)
        except nats.errors.Error:
            await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)
            return None
        finally:
            self._parked = None

    async def close(self, subscription: Subscription) -> None:
        """Takes nothing more; a message that is underway is handed on, not dropped."""
        if self.client.is_closed:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            if not self.client.is_connected:
                await subscription.unsubscribe()
                return
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await subscription.drain()  # type: ignore[no-untyped-call]

    def wake(self) -> None:
        """Ends the parked pull without a message."""
        if self._parked is not None:
            _resolve(self._parked)

    async def _waited(self, parked: asyncio.Future[Msg | None]) -> Msg | None:
        """Until a message, the end of the pull, or a silence of the server."""
        loop = asyncio.get_running_loop()
        while True:
            left = self._heard + _SILENCE_S - loop.time()
            if left <= 0:
                return None
            done, _ = await asyncio.wait({parked}, timeout=left)
            if done:
                return parked.result()

    async def _arrived(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        self._heard = asyncio.get_running_loop().time()
        if status == "100":
            return
        if status is None and not message.reply.startswith(_ACKNOWLEDGED_AT):
            return  # not from a stream: whoever knows the inbox can write to it
        parked = self._parked
        if parked is None or parked.done():
            if status is None:
                # A message for a pull that was given up: hand it on at once.
                await self.client.publish(message.reply, b"-NAK")
            return
        if status is None:
            parked.set_result(message)
            return
        # A pause keeps a refusing server from being asked in a tight loop.
        pause = 0.0 if status == _EXPIRED else _PAUSE_AFTER_REFUSAL_S
        asyncio.get_running_loop().call_later(pause, _resolve, parked)


def _resolve(parked: asyncio.Future[Msg | None]) -> None:
    if not parked.done():
        parked.set_result(None)


@dataclass(slots=True)
class PullWorker:
    """Runs `handler` for the messages of one durable consumer, `slots` at a time.

    The handler's return acknowledges; `Retry` and unexpected errors hand the message back;
    `InvalidMessage` calls `bury`, then ends it; `Abandon` leaves it alone.
    """

    bus: Bus
    stream: str
    consumer: str
    handler: Handler
    bury: Burial
    slots: int = 8
    _pull: _Pull | None = None
    _draining: bool = False

    async def run(self) -> None:
        """Until `drain`; returns when the messages in hand are done."""
        client = self.bus.client
        pull = _Pull(client, f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}")
        subscription = await pull.open()
        self._pull = pull
        forget = self.bus.on_reconnect(pull.wake)
        try:
            async with asyncio.TaskGroup() as group:
                await self._dispatch(pull, group)
        finally:
            forget()
            await pull.close(subscription)

    def drain(self) -> None:
        """No new messages from now on."""
        self._draining = True
        if self._pull is not None:
            self._pull.wake()

    async def _dispatch(self, pull: _Pull, group: asyncio.TaskGroup) -> None:
        """Pulls one message at a time, and only when a slot is free for it.

        One parked pull and not one per slot: a worker that hangs keeps its parked pulls at the
        server, and each of them would swallow a delivery of the command that it hangs on.
        """
        free = asyncio.Semaphore(self.slots)
        while not self._draining:
            await free.acquire()
            message = None if self._draining else await pull.next()
            if message is None:
                free.release()
                continue
            task = group.create_task(self._handle(Delivery.of(message)), name=self.consumer)
            task.add_done_callback(lambda _: free.release())

    async def _handle(self, delivery: Delivery) -> None:
        client = self.bus.client
        try:
            await self._carry_out(delivery)
        except InvalidMessage as error:
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

    async def _carry_out(self, delivery: Delivery) -> None:
        """The handler's work; what it refuses is buried before anything ends the message."""
        try:
            await self.handler(delivery)
        except InvalidMessage as error:
            await self.bury(delivery, error)
            raise


@asynccontextmanager
async def consuming(*workers: PullWorker, grace: timedelta) -> AsyncIterator[None]:
    """Runs workers for the block; then lets what they have in hand end within `grace`."""
    tasks = [asyncio.create_task(worker.run(), name=worker.consumer) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.drain()
        await finished(tasks, within=grace)


async def finished(tasks: Sequence[asyncio.Task[None]], *, within: timedelta) -> None:
    """Lets draining workers end; what is not done in time is handed to another process."""
    _, unfinished = await asyncio.wait(tasks, timeout=within.total_seconds())
    for task in unfinished:
        log.warning("work_handed_back", part=task.get_name())
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
