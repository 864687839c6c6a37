"""A drift as it is told: one item of the feed for each object."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.chassis.messages.applied import AppliedObject
from services.topology.cluster.objects import Key
from services.topology.drift.comparing import Difference, DriftKind, Verdict
from services.topology.feed.feeds import Item

_MOST_CHANGES = 50


class Healing(StrEnum):
    """What is done about a drift."""

    NONE = ""
    REPAIRING = "repairing"
    GIVEN_UP = "given up"
    """Somebody changes it back each time: `manager` names who."""


def ident_of(key: Key) -> str:
    return f"{key.kind}/{key.namespace}/{key.name}"


def item_of(
    key: Key, intent: AppliedObject, verdict: Verdict | None, *, mode: str, detected: datetime
) -> Item:
    """The drift of one object; without a verdict it is gone."""
    differences = verdict.differences if verdict else ()
    kind = verdict.kind if verdict else DriftKind.DELETED
    culprit = next((d for d in differences if d.kind is kind), None)
    return {
        "id": ident_of(key),
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
