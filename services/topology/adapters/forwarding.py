"""Asking the worker that owns a cluster: `ctl.topology.<cluster>.<verb>`.

The service API's queue group hands a question to any replica. What that one cannot answer from its
view it asks here; all replicas listen, and only the owner answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import nats.errors
import orjson
import structlog
from nats.aio.msg import Msg

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import is_asked, packed
from services.chassis.errors import BusUnavailable, InternalError, MeshbusError, WorkerUnavailable
from services.chassis.messages import ErrorReport
from services.chassis.reading.jsons import read_json
from services.topology.handlers import OwnerHandlers

# Less than whoever asked waits, so that it hears who did not answer.
_WITHIN = timedelta(seconds=8)
_STOP_WITHIN_S = 5.0
_ERROR = "Meshbus-Error"

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Forwarding:
    """Both halves: `ask` reaches an owner, `answering` answers as one."""

    bus: Bus
    handlers: OwnerHandlers
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def ask(self, cluster: str, verb: str, asked: dict[str, Any]) -> Any:
        """The owner's answer, or its error; `WorkerUnavailable` when the cluster has no owner."""
        if self.handlers.answers(cluster, verb):
            return await self.handlers.answer(cluster, verb, asked)
        subject = f"ctl.topology.{cluster}.{subjects.token(verb)}"
        try:
            reply = await self.bus.client.request(
                subject, orjson.dumps(asked), timeout=_WITHIN.total_seconds()
            )
        except (nats.errors.NoRespondersError, TimeoutError):
            raise WorkerUnavailable(f"no topology worker watches cluster {cluster} now") from None
        except nats.errors.Error as error:
            raise BusUnavailable(f"{subject} could not be asked") from error
        headers = dict(reply.headers or {})
        body = envelopes.unpacked(reply.data, headers)
        if _ERROR in headers:
            raise ErrorReport.model_validate_json(body).error()
        return read_json(body)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Answers for the clusters that are owned here, for the block."""
        subscription = await self.bus.client.subscribe("ctl.topology.*.*", cb=self._asked)
        try:
            yield
        finally:
            if not self.bus.client.is_closed:
                await subscription.unsubscribe()
            await self._end()

    async def _end(self) -> None:
        """Those in hand get some seconds: one about a cluster that does not answer takes long."""
        running = set(self._running)
        if running:
            _, late = await asyncio.wait(running, timeout=_STOP_WITHIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _asked(self, message: Msg) -> None:
        if not is_asked(message.subject, message.reply, of="ctl.topology."):
            log.warning("question_not_asked", subject=message.subject)
            return
        _, _, cluster, verb = message.subject.split(".")
        if not self.handlers.answers(cluster, verb):
            return
        task = asyncio.create_task(self._answer(message, cluster, verb), name="answer-as-owner")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, message: Msg, cluster: str, verb: str) -> None:
        headers: dict[str, str] = {}
        try:
            answer = await self.handlers.answer(cluster, verb, read_json(message.data))
            body, headers = packed(orjson.dumps(answer))
        except MeshbusError as error:
            body = ErrorReport.of(error).model_dump_json().encode()
            headers = {_ERROR: error.code}
        except Exception:
            log.exception("question_failed", verb=verb)
            body = ErrorReport.of(InternalError("the question failed")).model_dump_json().encode()
            headers = {_ERROR: InternalError.code}
        try:
            await self.bus.client.publish(message.reply, body, headers=headers or None)
        except nats.errors.Error:
            # Whoever asked gets no answer in time, and says so.
            log.warning("answer_lost", verb=verb)
