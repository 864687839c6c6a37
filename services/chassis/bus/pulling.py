"""Pull workers: a durable consumer shared by all replicas, one parked pull while a slot is free."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.inbox import PullInbox
from services.chassis.bus.streams import MAX_DELIVERIES
from services.chassis.errors import InvalidMessage

_HEARTBEAT_S = 5.0
# How often a worker that does not wait at the server looks whether something is there.
_LOOK_AGAIN_S = 0.1
_FOR_LATER = timedelta(seconds=4)

log = structlog.get_logger(__name__)


class Abandon(Exception):
    """A handler's word that the message is no longer its own: neither end it nor hand it back."""


class Retry(Exception):
    """A handler's word that the message should come again after `delay`."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__(f"again in {delay.total_seconds()} s")
        self.delay = delay

    @classmethod
    def by_a_later_version(cls, delivery: Delivery) -> Retry:
        """For a worker of the sender's version, which may be about to start: a minute in all."""
        is_last = delivery.attempt >= MAX_DELIVERIES
        return cls(timedelta(0) if is_last else _FOR_LATER * 2 ** (delivery.attempt - 1))


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


@contextlib.contextmanager
def reading(delivery: Delivery) -> Iterator[None]:
    """Hands back what cannot be read in the block, when a later version has sent it: it is no
    garbage to a worker of that."""
    try:
        yield
    except InvalidMessage as error:
        if not envelopes.is_from_a_later_version(delivery.headers):
            raise
        log.warning("message_of_a_later_version", reason=error.summary)
        raise Retry.by_a_later_version(delivery) from error


@asynccontextmanager
async def heartbeats(delivery: Delivery, *, ack_wait: timedelta) -> AsyncIterator[None]:
    """Keeps a message from other workers during work that may take longer than `ack_wait`.

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
    """Messages in hand at a time."""
    waits_below: int = 0
    """With more in hand than this the worker does not wait at the server for the next one: it takes
    only what is there and no other worker has waited for. 0 is the same as `slots`."""
    _inbox: PullInbox | None = None
    _in_hand: int = 0
    _draining: bool = False

    async def run(self) -> None:
        """Until `drain`; returns when the messages in hand are done."""
        inbox = PullInbox(
            self.bus, f"{self.stream}.{self.consumer}", 1, _HEARTBEAT_S, hand_back=_hand_back
        )
        self._inbox = inbox
        async with inbox.opened(), asyncio.TaskGroup() as group:
            await self._dispatch(inbox, group)

    def drain(self) -> None:
        """No new messages from now on."""
        self._draining = True
        if self._inbox is not None:
            self._inbox.wake()

    async def _dispatch(self, inbox: PullInbox, group: asyncio.TaskGroup) -> None:
        """Pulls one message at a time, and only when a slot is free for it.

        One parked pull and not one per slot: a worker that hangs keeps its parked pulls at the
        server, and each of them would swallow a delivery of the command that it hangs on.
        """
        free = asyncio.Semaphore(self.slots)
        while not self._draining:
            await free.acquire()
            message = None if self._draining else await self._next(inbox)
            if message is None:
                free.release()
                continue
            self._in_hand += 1
            task = group.create_task(self._handle(Delivery.of(message)), name=self.consumer)
            task.add_done_callback(lambda _: self._put_down(free))

    async def _next(self, inbox: PullInbox) -> Msg | None:
        if not self.waits_below or self._in_hand < self.waits_below:
            return await inbox.next()
        message = await inbox.next(waits=False)
        if message is None:
            await asyncio.sleep(_LOOK_AGAIN_S)
        return message

    def _put_down(self, free: asyncio.Semaphore) -> None:
        self._in_hand -= 1
        free.release()

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
        """Runs the handler; a message that it refuses is buried before its delivery is ended."""
        try:
            await self.handler(delivery)
        except InvalidMessage as error:
            await self.bury(delivery, error)
            raise


async def _hand_back(message: Msg) -> None:
    await message.nak()


@asynccontextmanager
async def consuming(*workers: PullWorker, grace: timedelta) -> AsyncIterator[None]:
    """Runs workers for the block; after it their running work may end within `grace`."""
    tasks = [asyncio.create_task(worker.run(), name=worker.consumer) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.drain()
        await finished(tasks, within=grace)


async def finished(tasks: Sequence[asyncio.Task[None]], *, within: timedelta) -> None:
    """Lets draining workers end; work that is not done in time goes to another process."""
    _, unfinished = await asyncio.wait(tasks, timeout=within.total_seconds())
    for task in unfinished:
        log.warning("work_handed_back", part=task.get_name())
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
