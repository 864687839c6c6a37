"""What is kept in memory of an intent: little, since definitions are large.

The rest is read when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any

import orjson

from services.chassis.kube.managedfields import own_entry
from services.chassis.kube.objects import KubeObject
from services.chassis.messages.applied import AppliedObject
from services.topology.cluster import kinds
from services.topology.cluster.state import State
from services.topology.drift.healing import Patience
from services.topology.drift.items import Healing
from services.topology.feed.feeds import Item

_SETTLED = timedelta(seconds=10)
"""Much more than an apply and the record of it are apart, and than clocks differ."""


def is_of(applied: AppliedObject, state: State) -> bool:
    """Whether an intent is of the cluster that `state` is of, whatever has its address now."""
    system = state.get(kinds.NAMESPACE, "", "kube-system")
    return system is None or applied.identity in ("", system.uid)


@dataclass(slots=True)
class Intended:
    """One intent, and what is told of it."""

    operation: str
    uid: str
    digest: bytes
    """Of the fields that are ours."""
    mode: str
    patience: Patience
    item: Item | None = None
    """The drift as it was told."""
    is_late: bool = False
    """An uncertain suspicion has waited as long as it has to."""

    @classmethod
    def of(cls, intent: AppliedObject, *, heal_attempts: int) -> Intended:
        return cls(intent.operation, intent.uid, b"", "", Patience(heal_attempts))

    def renew(self, intent: AppliedObject, *, default_mode: str) -> None:
        """Takes over what the intent says now."""
        if self.operation != intent.operation:
            # Not a repair, which leaves the operation's name: applied anew.
            self.operation = intent.operation
            self.patience.again()
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
