"""Followings of one cluster: the facts that translations used, held against what the watches see.

A change of a Service, a workload or a setting of the mesh is looked up among the facts of the kept
sources; where one is not as it was, the translator is asked to translate the source again. One such
request is under way at a time for each source, so that what comes meanwhile becomes one more and
not many; a burst is waited out first. Whether something really has changed is the translator's to
say, by facts that lifecycle reads: a wrong look here costs a translation and no more.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from services.chassis.errors import MeshbusError
from services.chassis.messages import Fact, Followed, ServiceFact, ServicePort, WorkloadFact
from services.chassis.messages.following import (
    ACCOUNT,
    MESH,
    SERVICE,
    VERSIONS,
    account_fact,
    mesh_fact,
    service_fact,
    versions_fact,
)
from services.chassis.telemetry import metrics
from services.chassis.telemetry.metrics import Metrics
from services.topology.cluster import kinds
from services.topology.cluster.indices import TwoWay
from services.topology.cluster.objects import Change, Key, Pod, Service, Workload
from services.topology.cluster.state import State
from services.topology.drift.workqueues import WorkQueue
from services.topology.mesh.meshes import mesh_of

_AGAIN_S = 1.0
"""Until the next try when the bus did not answer."""
_FIRST_BACKOFF_S = 4.0
_MANY, _LONGER = 8, 4
"""After so many changes the pause that ends a burst is so many times longer: more will come."""
_LONGEST_BURST = 50
"""As a multiple of the pause that ends it: so long a burst is waited out at most."""

_MOST_UNDER_WAY = 16
"""Followings of one cluster at once: after a change of the mesh all sources are followed, and those
who apply for people must not wait for them."""

Place = tuple[str, str, str]
"""Kind, namespace and name of a fact."""

log = structlog.get_logger(__name__)


class Sources(Protocol):
    """The kept sources of one cluster; `adapters/followed.py` has them."""

    async def versions(self, kind: str) -> Sequence[str]:
        """The versions in which the cluster serves a kind (`group/Kind`)."""

    async def follow(
        self, record: Followed, *, revision: int, view: str, attempt: int, attempts: int
    ) -> str:
        """Asks the translator to translate a source again; returns the operation's id at once.

        `view` is of the facts as they are now: the same request is made once."""


@dataclass(slots=True)
class _Source:
    """One kept source, and how far its following is."""

    record: Followed
    revision: int
    settled: str = ""
    """The view that a following has answered, although it still differs from here."""
    answered: str = ""
    """The view that was asked for when the record was renewed; "" when it may be another by now."""
    asked: str = ""
    """The view that was asked to be followed last; "" when nothing is under way."""
    asked_at: float = 0.0
    attempt: int = 0
    due: float = 0.0
    """When the next attempt may be made, in the loop's time."""
    since: float = 0.0
    """When the burst began that is waited out; 0 without one."""
    moved: float = 0.0
    """When something that it depends on changed last."""
    burst: int = 0
    """Changes since the burst began."""


@dataclass(slots=True, kw_only=True)
class Followings:
    """The followings of one cluster. `run` has to be kept running in a task."""

    state: State
    sources: Sources
    metrics: Metrics
    settle_s: float = 0.08
    attempts: int = 5
    _known: dict[Key, _Source] = field(default_factory=dict)
    _places: TwoWay[Key, Place] = field(default_factory=TwoWay)
    _queue: WorkQueue = field(default_factory=WorkQueue)
    _under_way: set[Key] = field(default_factory=set)
    """Sources that were asked to be followed and have no answer yet."""
    _waiting: dict[Key, None] = field(default_factory=dict)
    """Sources whose turn comes when one of those is answered, in order."""

    # --- what comes in ----------------------------------------------------------------------------

    def kept(self, record: Followed, revision: int) -> None:
        """A source was applied, or a following has renewed its record."""
        key = _key(record.source)
        known = self._known.get(key)
        fresh = _Source(record, revision)
        if known is not None and known.record.operation == record.operation:
            is_current = known.moved <= known.asked_at
            fresh.answered = known.asked if is_current else ""
            fresh.since, fresh.moved, fresh.burst = known.since, known.moved, known.burst
        self._known[key] = fresh
        self._over(key)
        self._places.put(key, frozenset(map(_looked_up, record.facts)))
        self._queue.add(key)

    def ended(self, source: str) -> None:
        """A source was deleted."""
        key = _key(source)
        self._known.pop(key, None)
        self._waiting.pop(key, None)
        self._over(key)
        self._places.put(key, frozenset())
        self._queue.drop(key)

    def changed(self, changes: Iterable[Change]) -> None:
        """Objects of the cluster came, changed or went."""
        if not self._known:
            return
        places = {place for change in changes for place in _touched(change)}
        for place in places:
            for key in self._places.having(place):
                self._move(key)

    def redefined(self) -> None:
        """The cluster may serve other versions of some kinds."""
        for key in self._known:
            self._move(key)

    def _move(self, key: Key) -> None:
        known, now = self._known[key], asyncio.get_running_loop().time()
        known.moved, known.since = now, known.since or now
        known.burst += 1
        self._queue.add(key, after_s=self.settle_s)

    # --- the work ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks at the sources whose facts may have changed, until it is cancelled."""
        await self._queue.run(self._looked)

    async def _looked(self, key: Key) -> None:
        known = self._known.get(key)
        if known is None or self._waits_out(key, known):
            return
        try:
            await self._look(key, known)
        except MeshbusError as error:
            log.info("following_delayed", source=known.record.source, reason=error.summary)
            self._queue.add(key, after_s=_AGAIN_S)
        except Exception:
            # One source of a form that nobody foresaw must not end the looking at all others.
            log.exception("following_unjudged", source=known.record.source)

    def _waits_out(self, key: Key, known: _Source) -> bool:
        """Whether a burst of changes is not over."""
        now = asyncio.get_running_loop().time()
        pause_s = self.settle_s * (_LONGER if known.burst > _MANY else 1)
        left = known.moved + pause_s - now
        if left > 0 and now - known.since < self.settle_s * _LONGEST_BURST:
            self._queue.add(key, after_s=left)
            return True
        known.since, known.burst = 0.0, 0
        return False

    async def _look(self, key: Key, known: _Source) -> None:
        view = await self._view(known)
        if self._known.get(key) is not known:
            return
        answered, known.answered = known.answered, ""
        if view is None or view == answered:
            # Otherwise what is read differently from here would be followed for ever.
            known.settled = view or ""
            self._over(key)
            return
        if view == known.settled:
            self._over(key)
            return
        now = asyncio.get_running_loop().time()
        if known.asked and now < known.due:
            self._queue.add(key, after_s=known.due - now)
            return
        if not self._has_turn(key):
            return
        known.attempt = known.attempt + 1 if view == known.asked else 1
        if known.attempt > self.attempts:
            self._give_up(known, view)
            self._over(key)
            return
        operation = await self.sources.follow(
            known.record,
            revision=known.revision,
            view=view,
            attempt=known.attempt,
            attempts=self.attempts,
        )
        pause = _FIRST_BACKOFF_S * 2 ** (known.attempt - 1)
        known.asked, known.asked_at, known.due = view, now, now + pause
        self.metrics.count(metrics.FOLLOWINGS, "asked")
        log.info("following", source=known.record.source, operation=operation)
        self._queue.add(key, after_s=pause)

    def _has_turn(self, key: Key) -> bool:
        """Whether the source may be asked for now; otherwise it is looked at again in its turn."""
        if key not in self._under_way and len(self._under_way) >= _MOST_UNDER_WAY:
            self._waiting[key] = None
            return False
        self._under_way.add(key)
        return True

    def _over(self, key: Key) -> None:
        """One that waits has its turn when a following that was under way is not any more."""
        if key in self._under_way:
            self._under_way.discard(key)
            if self._waiting:
                following = next(iter(self._waiting))
                del self._waiting[following]
                self._queue.add(following)

    def _give_up(self, known: _Source, view: str) -> None:
        known.settled = view
        self.metrics.count(metrics.FOLLOWINGS, "given_up")
        log.error(
            "following_given_up",
            source=known.record.source,
            operation=known.record.operation,
            attempts=self.attempts,
        )

    # --- the facts as they are now ----------------------------------------------------------------

    async def _view(self, known: _Source) -> str | None:
        """A digest of the source's facts as they are now; None when they are as they were, or when
        nothing can be applied now: its namespace goes, or the cluster serves a kind no more."""
        namespace = _key(known.record.source).namespace
        place = self.state.get(kinds.NAMESPACE, "", namespace)
        if place is None or place.is_terminating:
            return None
        facts = [await self._now(fact) for fact in known.record.facts]
        if any(fact.kind == VERSIONS and not fact.digest for fact in facts):
            return None
        if facts == known.record.facts:
            return None
        text = "\n".join(fact.digest for fact in facts)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    async def _now(self, fact: Fact) -> Fact:
        match fact.kind:
            case "Service":
                found = self.state.get(kinds.SERVICE, fact.namespace, fact.name)
                return service_fact(fact.namespace, fact.name, _service(found) if found else None)
            case "ServiceAccount":
                return account_fact(fact.namespace, fact.name, self._workloads(fact.namespace))
            case "versions":
                served: Mapping[str, Sequence[str]] = {
                    fact.name: await self.sources.versions(fact.name)
                }
                return versions_fact(fact.name, served)
            case "mesh":
                mesh = mesh_of(self.state)
                return mesh_fact(
                    root_namespace=mesh.system_namespace, trust_domain=mesh.trust_domain
                )
        return fact

    def _workloads(self, namespace: str) -> list[WorkloadFact]:
        pods = (pod for pod in self.state.all(kinds.POD, namespace) if _is_by_itself(pod))
        return [*map(_workload, self.state.workloads(namespace)), *map(_pod, pods)]


def _key(source: str) -> Key:
    kind, _, place = source.partition(" ")
    namespace, _, name = place.partition("/")
    return Key(kind, namespace, name)


def _looked_up(fact: Fact) -> Place:
    """Where a change is looked up. Of accounts it is their namespace: pods of one may have labels
    that another one's are selected by."""
    return (ACCOUNT, fact.namespace, "") if fact.kind == ACCOUNT else fact.place


def _touched(change: Change) -> Iterable[Place]:
    """The facts that an object is part of."""
    key = change.key
    if key.kind == kinds.SERVICE:
        yield (SERVICE, key.namespace, key.name)
    elif key.kind == kinds.CONFIG_MAP:
        yield (MESH, "", "")
    elif key.kind == kinds.POD or key.kind in kinds.WORKLOADS:
        before, after = change.before, change.after
        if before is not None and after is not None and _runs(before) == _runs(after):
            return
        for one in (before, after):
            if one is not None and not (isinstance(one, Pod) and not _is_by_itself(one)):
                yield (ACCOUNT, key.namespace, "")


def _runs(one: Workload | Pod) -> tuple[object, ...]:
    selector = one.selector if isinstance(one, Workload) else one.has_ended
    return (one.account, one.pod_labels, selector)


def _is_by_itself(pod: Pod) -> bool:
    """Whether no Deployment, StatefulSet or DaemonSet stands for a pod that runs."""
    owner = pod.owner
    return not pod.has_ended and (owner is None or owner.kind not in kinds.WORKLOADS)


def _service(found: Service) -> ServiceFact:
    ports = [
        ServicePort(
            port=port.number,
            name=port.name,
            protocol=port.protocol,
            app_protocol=port.app_protocol,
            target_port=port.target,
        )
        for port in found.ports
    ]
    return ServiceFact(namespace=found.namespace, name=found.name, ports=ports)


def _workload(found: Workload) -> WorkloadFact:
    return WorkloadFact(
        namespace=found.namespace,
        kind=found.key.kind.rpartition("/")[2],
        name=found.name,
        service_account=found.account,
        labels=dict(found.pod_labels),
        selector=dict(found.selector),
    )


def _pod(found: Pod) -> WorkloadFact:
    return WorkloadFact(
        namespace=found.namespace,
        kind="Pod",
        name=found.name,
        service_account=found.account,
        labels=dict(found.labels),
    )
