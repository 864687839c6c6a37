"""One applied object in memory: its intent, its published drift, and its repairs.

Of the intent only a digest is kept, since definitions are large; the rest is read when needed.

A drifted object is put back at once the first time, then after 1, 2, 4, … seconds. After so many
repairs within ten minutes healing gives up until the object is applied anew or a person asks: two
controllers that correct each other load the API server and never end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import orjson

from services.chassis.bus.intents import AppliedObject
from services.chassis.kube.applying import own_entry
from services.chassis.kube.objects import KubeObject
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key
from services.topology.cluster.state import State
from services.topology.drift.comparing import Difference, DriftKind, Verdict
from services.topology.feed.deltas import Item

_MOST_CHANGES = 50


class Healing(StrEnum):
    """The state of the repair of a drift."""

    NONE = ""
    REPAIRING = "repairing"
    GIVEN_UP = "given up"
    """Somebody changes it back each time: `manager` names who."""


def drift_id(key: Key) -> str:
    return f"{key.kind}/{key.namespace}/{key.name}"


def drift_item(
    key: Key, intent: AppliedObject, verdict: Verdict | None, *, mode: str, detected: datetime
) -> Item:
    """The drift of one object; without a verdict it is gone."""
    differences = verdict.differences if verdict else ()
    kind = verdict.kind if verdict else DriftKind.DELETED
    culprit = next((d for d in differences if d.kind is kind), None)
    return {
        "id": drift_id(key),
        "object": {"kind": key.kind, "namespace": key.namespace, "name": key.name},
        "kind": kind,
        "changes": [_change(difference) for difference in differences[:_MOST_CHANGES]],
        "more": max(0, len(differences) - _MOST_CHANGES),
        **_who(culprit.owner if culprit else {}),
        "detected": detected.isoformat(timespec="milliseconds"),
        "intent": {
            "operation": intent.operation,
            "kind": intent.operation_kind,
            "username": intent.username,
            "when": intent.when.isoformat(timespec="milliseconds"),
            "revision": intent.revision,
            "version": intent.version,
        },
        "mode": mode,
        "healing": Healing.NONE,
    }


def _who(entry: Mapping[str, Any]) -> dict[str, str]:
    """Who did it, as managedFields has it. Of a removal nobody is sure: then it is who wrote last;
    of a deletion nothing is known."""
    return {
        "manager": str(entry.get("manager") or ""),
        "operation": str(entry.get("operation") or ""),
        "subresource": str(entry.get("subresource") or ""),
        "time": str(entry.get("time") or ""),
    }


def _change(difference: Difference) -> Item:
    return {
        "path": difference.path,
        "wanted": difference.wanted,
        "found": difference.found,
        "kind": difference.kind,
        "manager": str(difference.owner.get("manager") or ""),
    }


WINDOW_S = 600.0
_FIRST_PAUSE_S = 1.0


@dataclass(slots=True)
class Backoff:
    """The repairs of one object. Times are of any clock that only goes forward, in seconds."""

    attempts: int
    """Repairs within the window, at most."""
    _repairs: list[float] = field(default_factory=list)
    _has_given_up: bool = False

    def due(self, now: float) -> float | None:
        """When the next repair may be made, now or later; None when healing has given up."""
        self._repairs = [at for at in self._repairs if now - at < WINDOW_S]
        if self._has_given_up or len(self._repairs) >= self.attempts:
            self._has_given_up = True
            return None
        if not self._repairs:
            return now
        pause_s: float = _FIRST_PAUSE_S * 2 ** (len(self._repairs) - 1)
        return max(now, self._repairs[-1] + pause_s)

    def repaired(self, now: float) -> None:
        self._repairs.append(now)

    def reset(self) -> None:
        """All is forgiven: the object was applied anew, or a person asked."""
        self._repairs.clear()
        self._has_given_up = False

    @property
    def repairs(self) -> int:
        return len(self._repairs)


_SETTLED = timedelta(seconds=10)
"""Much more than an apply and the record of it are apart, and than clocks differ."""


def is_of(applied: AppliedObject, state: State) -> bool:
    """Whether an intent is of this cluster, and not of an earlier one at the same address."""
    system = state.get(kinds.NAMESPACE, "", "kube-system")
    return system is None or applied.identity in ("", system.uid)


@dataclass(slots=True)
class TrackedObject:
    """An object that has an intent, with the drift that was published."""

    operation: str
    uid: str
    digest: bytes
    """Of the fields that are ours."""
    mode: str
    backoff: Backoff
    item: Item | None = None
    """The drift as it was published."""
    is_late: bool = False
    """An uncertain suspicion has waited as long as it has to."""

    @classmethod
    def of(cls, intent: AppliedObject, *, heal_attempts: int) -> TrackedObject:
        return cls(intent.operation, intent.uid, b"", "", Backoff(heal_attempts))

    def renew(self, intent: AppliedObject, *, default_mode: str) -> None:
        """Takes over a new version of the intent."""
        if self.operation != intent.operation:
            # Not a repair, which leaves the operation's name: applied anew.
            self.operation = intent.operation
            self.backoff.reset()
            if self.item is not None:
                self.item = {**self.item, "healing": Healing.NONE}
        self.uid, self.digest = intent.uid, _digest(intent.fields)
        self.mode = intent.mode or default_mode

    def is_as_applied(self, obj: KubeObject) -> bool:
        """Whether the object has all of our fields; cheap, for every event."""
        own = own_entry(obj)
        return (
            own is not None
            and (obj.get("metadata") or {}).get("uid") == self.uid
            and _digest(own.get("fieldsV1") or {}) == self.digest
        )


def _digest(fields: Mapping[str, Any]) -> bytes:
    text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=16).digest()


def is_settled(intent: AppliedObject) -> bool:
    """Whether no apply of the second of the intent can be under way any more."""
    return datetime.now(timezone.utc) - intent.when > _SETTLED
