"""Drift of one cluster: the intents of lifecycle against the objects of the watches.

A watch event is compared with the kept intent by field ownership, which costs microseconds; only an
object that lost something of ours is looked at closely. Before a drift is published, its intent
is read once more from the bus: lifecycle forgets an intent before it deletes the object, and renews
it after it applied, so that its own work is no drift. Rejected: a dry-run apply per event (a write
request each), and a periodic comparison (seconds to minutes late).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Protocol

import structlog

from services.chassis.bus.intents import AppliedObject
from services.chassis.errors import ClusterForbidden, MeshbusError
from services.chassis.kube.objects import KubeObject
from services.topology.cluster.objects import Key
from services.topology.drift.comparing import Standing, Verdict, compared
from services.topology.drift.fieldsets import without
from services.topology.drift.intents import Healing, TrackedObject, drift_id, drift_item, is_settled
from services.topology.drift.workqueues import WorkQueue
from services.topology.feed.deltas import DRIFT_PART, Item, Parts

_FIRST_LOOK_S = 0.2
"""After an intent came: by then a watch has mostly brought its object, and nobody has to ask."""
_AGAIN_S = 1.0
"""Until the next try when the bus or the cluster did not answer."""
_ADOPTED_FOR_S = 30.0
"""By then all intents of a cluster have come."""
_REFUSED_AGAIN_S = 300.0
"""The same when the credential may not read the object."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Gone:
    """A watch saw the object of this UID go."""

    uid: str


def _nobody(_key: Key) -> None:
    """Who hears of intents where nobody wants to."""


class AppliedObjects(Protocol):
    """The objects that lifecycle applied to one cluster; `adapters/applied.py` has them."""

    async def intent(self, key: Key) -> AppliedObject | None:
        """The intent, straight from the bus; None when it was forgotten."""

    async def live(self, key: Key) -> KubeObject | None:
        """The object as it is, with its managed fields; None when it, or its kind, is gone."""

    async def heal(self, intent: AppliedObject, body: KubeObject) -> str:
        """Asks lifecycle to apply it again, and returns the operation's id at once."""


@dataclass(slots=True, kw_only=True)
class Drifts:
    """The drifts of one cluster.

    What the watches and the intents bring is taken at once; `run` has to be kept running in a task
    and does the rest. Items go to `publish` as `{DRIFT_PART: {id: item or None}}`.
    """

    applied: AppliedObjects
    publish: Callable[[Parts], None]
    mode: str = "report"
    """`report`, `heal` or `ignore`, for intents whose annotation does not say."""
    heal_attempts: int = 5
    on_tracked: Callable[[Key], None] = _nobody
    """Hears of each object that had no intent before: its kind has to be watched."""
    patience_s: float = 2.0
    """How long a suspicion that may be our own work waits for the new intent."""
    _tracked: dict[Key, TrackedObject] = field(default_factory=dict)
    _seen: dict[Key, KubeObject | _Gone] = field(default_factory=dict)
    """What a watch saw last of a suspicious object that nobody has looked at yet."""
    _queue: WorkQueue = field(default_factory=WorkQueue)
    _adopted: dict[str, Item] = field(default_factory=dict)
    """Drifts that an earlier owner of the cluster has told, by id, until their intents come."""

    # --- what comes in ----------------------------------------------------------------------------

    def intended(self, key: Key, intent: AppliedObject | None) -> None:
        """An intent came, was renewed, or (None) is forgotten. Its object is looked at."""
        if intent is None:
            self._forget(key)
            return
        known = self._renewed(key, intent)
        self._queue.add(key, after_s=0.0 if known.item is not None else _FIRST_LOOK_S)

    def saw(self, kind: str, obj: KubeObject) -> None:
        """A watch brought an object (ADDED or MODIFIED); `kind` is `group/Kind`."""
        key = _key(kind, obj)
        known = self._tracked.get(key)
        if known is None or (obj.get("metadata") or {}).get("deletionTimestamp"):
            return
        if not self._is_open(key, known) and known.is_as_applied(obj):
            self._seen.pop(key, None)
            self._queue.drop(key)
            return
        self._seen[key] = obj
        self._queue.add(key)

    def gone(self, kind: str, obj: KubeObject) -> None:
        """A watch says that an object was deleted."""
        key = _key(kind, obj)
        if key in self._tracked:
            self._seen[key] = _Gone(str((obj.get("metadata") or {}).get("uid") or ""))
            self._queue.add(key)

    def relisted(self, kind: str, objs: Iterable[KubeObject], *, namespace: str = "") -> None:
        """A whole list, of one namespace or ("") of the cluster: objects missing from it may be
        gone."""
        listed: set[Key] = set()
        for obj in objs:
            listed.add(_key(kind, obj))
            self.saw(kind, obj)
        for key in self._tracked:
            is_meant = key.kind == kind and (not namespace or key.namespace == namespace)
            if is_meant and key not in listed:
                # The list may be older than the intent: the cluster is asked.
                self._seen.pop(key, None)
                self._queue.add(key)

    def adopt(self, items: Iterable[Item]) -> None:
        """Takes over what an earlier owner of the cluster has told; each is looked at when its
        intent comes, and withdrawn when none does."""
        self._adopted = {item["id"]: item for item in items}
        asyncio.get_running_loop().call_later(_ADOPTED_FOR_S, self._disown)

    def _disown(self) -> None:
        items, self._adopted = self._adopted, {}
        if items:
            self.publish({DRIFT_PART: dict.fromkeys(items)})

    # --- what is asked ----------------------------------------------------------------------------

    def kinds(self) -> Set[Key]:
        """The objects that have an intent, a live view; their kinds have to be watched."""
        return self._tracked.keys()

    def items(self) -> dict[str, Item]:
        """The present drifts by id."""
        return {k.item["id"]: k.item for k in self._tracked.values() if k.item is not None}

    async def heal(self, ident: str) -> bool:
        """A person asks to put one drifted object back; False when there is no such drift."""
        key = next((key for key in self._tracked if drift_id(key) == ident), None)
        if key is None or self._tracked[key].item is None:
            return False
        known = self._tracked[key]
        intent, live = await self.applied.intent(key), await self.applied.live(key)
        if intent is None:
            return False
        known.backoff.reset()
        await self._heal(key, known, intent, compared(intent, live) if live else None)
        return True

    # --- the work ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Compares the suspicious objects, until it is cancelled."""
        await self._queue.run(self._looked)

    async def _looked(self, key: Key) -> None:
        sight = self._seen.pop(key, None)
        try:
            await self._judge(key, sight)
        except MeshbusError as error:
            if sight is not None:
                self._seen.setdefault(key, sight)
            is_refused = isinstance(error, ClusterForbidden)
            log.info("drift_unread", object=str(key), reason=type(error).__name__)
            self._queue.add(key, after_s=_REFUSED_AGAIN_S if is_refused else _AGAIN_S)
        except Exception:
            # An object of a form that nobody foresaw must not end the looking at all others.
            log.exception("drift_unjudged", object=str(key))

    async def _judge(self, key: Key, sight: KubeObject | _Gone | None) -> None:
        """One look at one object."""
        intent = await self.applied.intent(key)
        if intent is None:
            self._forget(key)
            return
        known = self._renewed(key, intent)
        if known.mode == "ignore":
            self._over(known)
            return
        live = await self._live(key, intent, sight)
        if key in self._seen or self._tracked.get(key) is not known:
            # Something newer came meanwhile, and is due.
            return
        if live is None:
            if not isinstance(sight, _Gone) and known.item is None and not known.is_late:
                # No watch has said so: the server may not serve a new kind everywhere yet.
                known.is_late = True
                self._queue.add(key, after_s=self.patience_s)
                return
            known.is_late = False
            await self._drifted(key, known, intent, None)
            return
        if (live.get("metadata") or {}).get("deletionTimestamp"):
            return
        await self._settle(key, known, intent, compared(intent, live))

    async def _live(
        self, key: Key, intent: AppliedObject, sight: KubeObject | _Gone | None
    ) -> KubeObject | None:
        if sight is None:
            return await self.applied.live(key)
        if not isinstance(sight, _Gone):
            return sight
        if sight.uid in ("", intent.uid):
            return None
        # The one that went is not the one that was applied last.
        return await self.applied.live(key)

    async def _settle(
        self, key: Key, known: TrackedObject, intent: AppliedObject, verdict: Verdict
    ) -> None:
        match verdict.standing:
            case Standing.OUTDATED:
                return
            case Standing.AS_APPLIED | Standing.APPLIED_AGAIN:
                known.is_late = False
                self._over(known)
            case Standing.UNSURE if not known.is_late and not is_settled(intent):
                known.is_late = True
                self._queue.add(key, after_s=self.patience_s)
            case Standing.UNSURE | Standing.DRIFTED:
                known.is_late = False
                await self._drifted(key, known, intent, verdict)

    async def _drifted(
        self, key: Key, known: TrackedObject, intent: AppliedObject, verdict: Verdict | None
    ) -> None:
        detected = datetime.now(timezone.utc)
        item = drift_item(key, intent, verdict, mode=known.mode, detected=detected)
        if known.item is not None:
            item["detected"] = known.item["detected"]
            item["healing"] = known.item["healing"]
        self._publish(known, item)
        if known.mode == "heal":
            await self._heal(key, known, intent, verdict)

    async def _heal(
        self, key: Key, known: TrackedObject, intent: AppliedObject, verdict: Verdict | None
    ) -> None:
        if known.item is None:
            return
        now = asyncio.get_running_loop().time()
        due = known.backoff.due(now)
        if due is None:
            self._give_up(key, known)
            return
        if due > now:
            self._queue.add(key, after_s=due - now)
            return
        body = without(intent.object, verdict.exempt if verdict else ())
        operation = await self.applied.heal(intent, body)
        known.backoff.repaired(now)
        log.info("drift_healing", object=str(key), operation=operation)
        if known.item is not None:
            self._publish(known, {**known.item, "healing": Healing.REPAIRING})
        # The event of a repair that works ends the drift before this.
        again = known.backoff.due(now)
        self._queue.add(key, after_s=again - now if again is not None else _AGAIN_S)

    def _give_up(self, key: Key, known: TrackedObject) -> None:
        if known.item is None or known.item["healing"] == Healing.GIVEN_UP:
            return
        log.error(
            "healing_given_up",
            object=str(key),
            manager=known.item["manager"] or "(unknown)",
            repairs=known.backoff.repairs,
        )
        self._publish(known, {**known.item, "healing": Healing.GIVEN_UP})

    def _is_open(self, key: Key, known: TrackedObject) -> bool:
        """Whether a drift is published, or about to be."""
        return known.item is not None or self._queue.is_busy(key)

    # --- what is known ----------------------------------------------------------------------------

    def _renewed(self, key: Key, intent: AppliedObject) -> TrackedObject:
        known = self._tracked.get(key)
        if known is None:
            known = TrackedObject.of(intent, heal_attempts=self.heal_attempts)
            known.item = self._adopted.pop(drift_id(key), None)
            self._tracked[key] = known
            self.on_tracked(key)
        known.renew(intent, default_mode=self.mode)
        return known

    def _forget(self, key: Key) -> None:
        known = self._tracked.pop(key, None)
        self._seen.pop(key, None)
        self._queue.drop(key)
        if known is not None:
            self._over(known)

    def _over(self, known: TrackedObject) -> None:
        if known.item is not None:
            self.publish({DRIFT_PART: {known.item["id"]: None}})
            known.item = None

    def _publish(self, known: TrackedObject, item: Item) -> None:
        if item != known.item:
            known.item = item
            self.publish({DRIFT_PART: {item["id"]: item}})


def _key(kind: str, obj: KubeObject) -> Key:
    metadata = obj.get("metadata") or {}
    return Key(kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
