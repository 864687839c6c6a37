"""The control subjects of runs: core messages between perf workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import nats.errors
import nats.js.errors
import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.queries import is_asked
from services.chassis.errors import BusUnavailable, shortened
from services.perf.adapters import subjects
from services.perf.runs.wire import ReadyAnswer, ReadyQuestion, Report, RollAnswer, ShardCommand

_ROLL_CALL_S = 0.1
_READY_WITHIN_S = 1.0
_PUBLISH_WITHIN = timedelta(seconds=20)
_STOP = b"stop"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BusChannels:
    """Implements `runs.wire.Channels`."""

    bus: Bus
    publisher: Publisher
    region: str = ""
    """Whose workers a run is for: their shards wait in queues of their own."""

    @property
    def is_connected(self) -> bool:
        return self.bus.is_connected

    async def roll_call(self) -> list[RollAnswer]:
        """The region's workers that answer within a tenth of a second."""
        answers: list[RollAnswer] = []

        async def heard(message: Msg) -> None:
            try:
                answer = RollAnswer.model_validate_json(message.data)
            except ValidationError:
                log.warning("roll_answer_unreadable")
                return
            if answer.region == self.region:
                answers.append(answer)

        inbox = self.bus.client.new_inbox()
        try:
            subscription = await self.bus.client.subscribe(inbox, cb=heard)
            try:
                await self.bus.client.publish(subjects.ROLL_CALL, b"", reply=inbox)
                await asyncio.sleep(_ROLL_CALL_S)
            finally:
                await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable("the perf workers could not be asked") from error
        return answers

    @asynccontextmanager
    async def answering(self, answer: Callable[[], RollAnswer]) -> AsyncIterator[None]:
        """Answers roll calls for the block."""

        async def respond(message: Msg) -> None:
            if is_asked(message.subject, message.reply, of=subjects.ROLL_CALL):
                await self.bus.client.publish(message.reply, answer().model_dump_json().encode())

        subscription = await self.bus.client.subscribe(subjects.ROLL_CALL, cb=respond)
        try:
            yield
        finally:
            if not self.bus.client.is_closed:
                await subscription.unsubscribe()

    async def publish(self, command: ShardCommand) -> None:
        body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
        body, headers = envelopes.sealed(body, headers, keys=self.bus.keys, recipient="perf")
        headers |= {
            envelopes.MESSAGE_ID: self.bus.message_id(f"perf.{command.run}.{command.token}"),
            envelopes.OPERATION: command.run,
            envelopes.KIND: f"shard {command.shard.number}",
        }
        subject = subjects.shard_command(run=command.run, shard=command.token, region=self.region)
        try:
            await self.publisher.raw(
                subject, body, headers, within=_PUBLISH_WITHIN, ttl=_time_to_live(command)
            )
        except nats.js.errors.APIError as error:
            raise BusUnavailable(shortened(str(error.description))) from error

    @asynccontextmanager
    async def conduct(
        self,
        run: str,
        *,
        on_ready: Callable[[ReadyQuestion], ReadyAnswer],
        on_report: Callable[[Report], None],
    ) -> AsyncIterator[None]:
        async def heard(message: Msg) -> None:
            verb = message.subject.rpartition(".")[2]
            try:
                if verb == "ready" and is_asked(message.subject, message.reply, of="ctl.perf."):
                    answer = on_ready(ReadyQuestion.model_validate_json(message.data))
                    await self.bus.client.publish(message.reply, answer.model_dump_json().encode())
                elif verb == "report":
                    body = envelopes.unpacked(message.data, dict(message.headers or {}))
                    on_report(Report.model_validate_json(body))
            except ValidationError:
                log.warning("control_message_unreadable", verb=verb)

        subscription = await self.bus.client.subscribe(subjects.control("*", run=run), cb=heard)
        try:
            yield
        finally:
            if not self.bus.client.is_closed:
                await subscription.unsubscribe()

    async def stop(self, run: str) -> None:
        try:
            await self.bus.client.publish(subjects.control("stop", run=run), _STOP)
            await self.bus.client.flush(timeout=1)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.warning("stop_not_sent", reason=type(error).__name__)

    async def cancel(self, operation: str, cluster: str) -> None:
        """Asks the worker that carries the operation out on the cluster to stop."""
        subject = subjects.control("cancel", run=operation)
        try:
            await self.bus.client.publish(subject, cluster.encode())
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable("the request to cancel could not be sent") from error

    def cancelling(
        self, operation: str, cluster: str, on_cancel: Callable[[], None]
    ) -> AbstractAsyncContextManager[None]:
        """Calls `on_cancel` for such a request, for the block."""

        def heard(message: Msg) -> None:
            if message.data == cluster.encode():
                on_cancel()

        return self._listening(subjects.control("cancel", run=operation), heard)

    async def ready(self, run: str, question: ReadyQuestion) -> ReadyAnswer | None:
        try:
            reply = await self.bus.client.request(
                subjects.control("ready", run=run),
                question.model_dump_json().encode(),
                timeout=_READY_WITHIN_S,
            )
            return ReadyAnswer.model_validate_json(reply.data)
        except (nats.errors.Error, TimeoutError, OSError, ValidationError):
            return None

    async def report(self, run: str, report: Report) -> None:
        body, headers = envelopes.compressed(report.model_dump_json().encode())
        try:
            await self.bus.client.publish(
                subjects.control("report", run=run), body, headers=headers or None
            )
        except (nats.errors.Error, OSError) as error:
            log.warning("report_not_sent", reason=type(error).__name__)

    def stopping(self, run: str, on_stop: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        return self._listening(subjects.control("stop", run=run), lambda _message: on_stop())

    @asynccontextmanager
    async def _listening(self, subject: str, heard: Callable[[Msg], None]) -> AsyncIterator[None]:
        async def take(message: Msg) -> None:
            heard(message)

        subscription = await self.bus.client.subscribe(subject, cb=take)
        try:
            yield
        finally:
            if not self.bus.client.is_closed:
                await subscription.unsubscribe()


def _time_to_live(command: ShardCommand) -> timedelta:
    """A shard that no worker took until its deadline leaves the queue by itself.

    Nothing is lost when a shard that runs for longer leaves it too: it runs on, and only its
    conductor decides whether it is run again.
    """
    return max(timedelta(seconds=1), command.deadline - datetime.now(timezone.utc))
