"""Conducts rollouts: whoever holds a rollout's lease decides, stores the decision, and queues the
steps that it gave.

A conductor holds no command and no slot while it waits, and opens no credential: what it queues is
each cluster's own command, as the gateway signed it. It may die at any moment. Its successor finds
the decision, and queues again what was not answered.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

import structlog

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.publishing import Publisher
from services.chassis.errors import (
    BusUnavailable,
    ClusterBusy,
    DeadlineExpired,
    LeaseLost,
    MeshbusError,
    RolloutStopped,
)
from services.chassis.messages import (
    Command,
    ErrorReport,
    Event,
    OperationRecord,
    OperationState,
    Phase,
)
from services.chassis.operations.claims import Claims
from services.chassis.telemetry.redaction import redacted_text
from services.lifecycle.rollouts.deciding import JUDGED, Seen, Verdict, decide
from services.lifecycle.rollouts.options import GateOptions, RolloutOptions
from services.lifecycle.rollouts.records import (
    UNSTOPPABLE,
    PartRecord,
    RolloutPart,
    RolloutRecord,
    Stage,
)
from services.lifecycle.rollouts.store import Store

SERVICE = "lifecycle"
_LOOK_EVERY_S = 2.0
_TICK_S = 0.5
_EACH_S = 0.02
"""Added up over the open steps: a large wave must not keep NATS busy with questions."""
_ALL_EVERY_S = 5.0
"""How often the operations of clusters that have no step are looked at."""
_AGAIN_AFTER_S = 10.0
"""A step without an answer is queued again; the queue refuses it as long as the first is there."""
_MOST_QUEUED = 6
"""How often the queue takes a step's command without an answer: more is in vain. A worker that has
it, or died with it, keeps its place in the queue."""
_PUBLISH_WITHIN = timedelta(seconds=10)

Judge = Callable[[GateOptions, Sequence[RolloutPart], str], Awaitable[Verdict]]
"""Asks the gate about clusters that moved to a version."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Conductors:
    """The rollouts that one worker conducts, or would if their conductor died."""

    store: Store
    leases: Leases
    claims: Claims
    publisher: Publisher
    judge: Judge
    fail: Callable[[Command, MeshbusError], Awaitable[None]]
    """Ends the operation on a cluster whose command nobody will carry out any more."""
    allowance: timedelta
    """How long a lease outlives its last renewal."""
    now: Callable[[], datetime]
    _over: set[str] = field(default_factory=set)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> None:
        """Looks for new rollouts at once."""
        self._news.set()

    @asynccontextmanager
    async def conducting(self) -> AsyncIterator[None]:
        """Conducts what nobody else does, for the block."""
        task = asyncio.create_task(self._run(), name="conductors")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                try:
                    for key in await self.store.keys():
                        await self._take_up(key)
                except MeshbusError as error:
                    log.warning("rollouts_not_seen", reason=error.summary)
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._news.wait()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take_up(self, key: str) -> None:
        if key in self._over or key in self._tasks:
            return
        try:
            stored = await self.store.at(key)
        except ValueError:
            return  # of a later version, whose workers conduct it
        if stored is None or stored[0].is_over:
            self._over.add(key)
            return
        task = asyncio.create_task(self._conduct(key), name=f"conduct-{key}")
        self._tasks[key] = task
        task.add_done_callback(partial(self._done, key))

    def _done(self, key: str, _: asyncio.Task[None]) -> None:
        self._tasks.pop(key, None)

    async def _conduct(self, key: str) -> None:
        """Conducts the rollout if nobody else does."""
        fence = Fence(self.allowance)
        try:
            async with self.leases.held(
                key, operation=f"conductor {self.leases.worker}", attempt=1, fence=fence
            ):
                stored = await self.store.at(key)
                if stored is not None:
                    await _Conducting(self, *stored, fence=fence).run()
        except ClusterBusy:
            return
        except (LeaseLost, BusUnavailable) as error:
            log.warning("rollout_given_up", rollout=key, reason=error.summary)
        except Exception:
            log.exception("conducting_failed", rollout=key)


@dataclass(slots=True)
class _Queued:
    """A step that was queued."""

    number: int
    at: float
    times: int = 0
    """How often the queue took it."""


@dataclass(slots=True)
class _Conducting:
    """One rollout in the hands of one conductor."""

    own: Conductors
    record: RolloutRecord
    revision: int
    fence: Fence
    parts: dict[str, PartRecord] = field(default_factory=dict)
    queued: dict[str, _Queued] = field(default_factory=dict)
    """The step that was queued last, by cluster."""
    flagged: set[str] = field(default_factory=set)
    """Clusters whose operation is marked as cancelled."""
    looked_s: float = 0.0
    judged_s: float = 0.0

    async def run(self) -> None:
        options = RolloutOptions.model_validate(self.record.options)
        log.info("rollout_conducted", rollout=self.record.rollout, stage=self.record.stage)
        await self._tell()
        while not self.record.is_over:
            self.fence.check()
            decided = decide(self.record, options, await self._seen(options))
            if decided is self.record:
                await self._queue_steps()
                open_now = sum(part.is_open for part in self.record.parts.values())
                await asyncio.sleep(max(_TICK_S, _EACH_S * open_now))
                continue
            self.fence.check()
            self.revision = await self.own.store.decide(decided, revision=self.revision)
            self.record = decided
            await self._queue_steps()
            await self._tell()

    # --- seeing ---------------------------------------------------------------------------------

    async def _seen(self, options: RolloutOptions) -> Seen:
        is_gathering = self.record.stage is Stage.GATHERING
        left = [part for part in self.record.parts.values() if not part.is_told]
        answering = [p for p in left if p.is_open or (is_gathering and p.cluster not in self.parts)]
        answers = await asyncio.gather(
            *(self.own.store.part(self.record.rollout, part.cluster) for part in answering)
        )
        for part, stored in zip(answering, answers, strict=True):
            if stored is not None:
                self.parts[part.cluster] = stored[0]
        ended, cancelled = await self._operations(left if self._is_time_for_all() else answering)
        return Seen(
            now=self.own.now(),
            parts=self.parts,
            ended=ended,
            cancelled=cancelled,
            wish=await self.own.store.wish(self.record.rollout),
            verdict=await self._verdict(options),
        )

    async def _operations(
        self, parts: Sequence[RolloutPart]
    ) -> tuple[dict[str, ErrorReport | None], frozenset[str]]:
        """Where the operation has ended, and where somebody has cancelled it."""
        stored = await asyncio.gather(
            *(self.own.claims.stored(self.record.rollout, part.cluster) for part in parts)
        )
        ended: dict[str, ErrorReport | None] = {}
        cancelled = set()
        for part, found in zip(parts, stored, strict=True):
            if found is None:
                continue
            if found[0].state.is_terminal:
                is_good = found[0].state is OperationState.SUCCEEDED
                ended[part.cluster] = None if is_good else found[0].error
                await self._repeat(found[0])
                await self.own.store.leave(self.record.rollout, part.cluster)
            elif found[0].cancel_requested:
                self.flagged.add(part.cluster)
                # Of one that is stopped or leaves it is our own word.
                if self.record.reason is None and not part.is_leaving:
                    cancelled.add(part.cluster)
        return ended, frozenset(cancelled)

    async def _repeat(self, ended: OperationRecord) -> None:
        """Publishes an end that a conductor may have given the operation (`_give_up`) and not told,
        as it died between the record and the event. The server drops one that was told."""
        final = ended.final
        if ended.state is OperationState.FAILED and final is not None and final.service == SERVICE:
            await self.own.publisher.event(final)

    async def _verdict(self, options: RolloutOptions) -> Verdict | None:
        """What the gate says, now and then; None in between."""
        if self.record.stage not in JUDGED or self.record.is_paused:
            return None
        every_s = min(10.0, options.gate.window_s / 5)
        if _now() - self.judged_s < every_s:
            return None
        self.judged_s = _now()
        wave = self.record.waves[self.record.wave]
        parts = [self.record.parts[c] for c in wave if self.record.parts[c].fate is None]
        return await self.fence.guard(
            _awaited(self.own.judge(options.gate, parts, self.record.version))
        )

    def _is_time_for_all(self) -> bool:
        if _now() - self.looked_s < _ALL_EVERY_S:
            return False
        self.looked_s = _now()
        return True

    # --- doing ----------------------------------------------------------------------------------

    async def _queue_steps(self) -> None:
        """Queues the steps that are given and not answered, and stops those that nobody wants."""
        for part in self.record.parts.values():
            if not part.is_open:
                continue
            is_unwanted = self.record.reason is not None or part.is_leaving
            if is_unwanted and part.step not in UNSTOPPABLE and part.cluster not in self.flagged:
                await self.own.claims.cancel(self.record.rollout, part.cluster)
                self.flagged.add(part.cluster)
            queued = self.queued.get(part.cluster)
            if queued is None or queued.number != part.number:
                queued = self.queued[part.cluster] = _Queued(part.number, -math.inf)
            if _now() - queued.at > _AGAIN_AFTER_S:
                if part.cluster in self.flagged and part.step in UNSTOPPABLE:
                    await self.own.claims.resume(self.record.rollout, part.cluster)
                    self.flagged.discard(part.cluster)
                self.fence.check()
                if queued.times >= _MOST_QUEUED:
                    await self._give_up(part, _refused(part))
                elif await self._queue(part):
                    queued.times += 1
                queued.at = _now()

    async def _give_up(self, part: RolloutPart, error: MeshbusError) -> None:
        """Ends the operation where no worker will; the next decision finds that it has ended."""
        rollout, cluster = self.record.rollout, part.cluster
        log.warning("rollout_step_given_up", rollout=rollout, cluster=cluster, code=error.code)
        outline = Command(
            operation=rollout,
            kind=self.record.kind,
            cluster=cluster,
            cluster_name=part.name,
            credential=subjects.operation_credential(rollout, cluster),
        )
        await self.own.fail(outline, error)

    async def _queue(self, part: RolloutPart) -> bool:
        """Queues the cluster's command; False where it is in the queue, or in a worker's hands."""
        rollout, cluster = self.record.rollout, part.cluster
        kept = self.parts.get(cluster)
        if kept is None:
            stored = await self.own.store.part(rollout, cluster)
            if stored is None:
                return True  # its command is gone: not for long, or for good
            kept = self.parts[cluster] = stored[0]
        subject = subjects.apply_command(
            service=SERVICE, cluster=cluster, operation=rollout, region=kept.region
        )
        headers = {
            **kept.headers,
            # The stream would drop a later step as a copy of the first.
            envelopes.MESSAGE_ID: f"{SERVICE}.{rollout}.{cluster}.{part.number}.{uuid4().hex[:8]}",
        }
        outline = Command(
            operation=rollout,
            kind=self.record.kind,
            cluster=cluster,
            cluster_name=part.name,
            deadline=kept.expires,
        )
        try:
            await self.own.publisher.queued(
                subject,
                base64.b64decode(kept.command),
                headers,
                outline,
                within=_PUBLISH_WITHIN,
            )
        except ClusterBusy:
            return False
        except DeadlineExpired as error:
            await self._give_up(part, error)
        return True

    async def _tell(self) -> None:
        """Publishes the notes of the last decision; a repeat is dropped by its place."""
        told = ((note, c) for note in self.record.notes for c in note.clusters or [note.cluster])
        for note, cluster in told:
            await self.own.publisher.event(
                Event(
                    operation=self.record.rollout,
                    kind=self.record.kind,
                    service=SERVICE,
                    cluster=cluster,
                    cluster_name=self.record.parts[cluster].name,
                    attempt=0,
                    sequence=note.number,
                    phase=Phase.NOTE,
                    severity=note.severity,
                    summary=redacted_text(note.summary),
                    details=redacted_text(note.details),
                )
            )


def _refused(part: RolloutPart) -> RolloutStopped:
    return RolloutStopped(
        f"no worker carries out the command of {part.name or part.cluster}",
        cause="workers refuse it: the policy or the key that it was signed under holds no more, or "
        "it cannot be read",
        remedy="see its letter (`nats stream view DLQ`), mend that, and send the rollout again",
    )


async def _awaited(verdict: Awaitable[Verdict]) -> Verdict:
    return await verdict


def _now() -> float:
    return asyncio.get_running_loop().time()
