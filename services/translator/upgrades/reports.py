"""The report of an upgrade: what it does to which object, in words and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.istio.reading import Minor, minor_of
from services.translator.reports import Level, Path, dotted

_SEVERITY = (Level.ERROR, Level.WARNING, Level.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that the upgrade does to one object, or to the mesh as a whole."""

    subject: Ref
    path: Path
    level: Level
    rule: str
    """`kind`, `api-version` or `schema` for what the definitions lost, `upgrade/<minor>/<key>` for
    what Istio does differently, else the rule of a finding, such as IST0151."""
    since: str
    """The minor that brings it, such as 1.31; "" for what is so already and worth a look."""
    reason: str
    remedy: str = ""
    rewritten: KubeObject | None = None
    """The whole object in a form that works after the upgrade as it does before."""

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "level": self.level.value,
            "rule": self.rule,
            "since": self.since,
            "object": str(self.subject),
            "path": dotted(self.path),
            "reason": self.reason,
            "remedy": self.remedy,
            "rewritten": self.rewritten,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeReport:
    """All changes: the graver first, then the older, then by object and place."""

    current: str
    target: str
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Changes of each level; every level is there."""
        return {
            level.value: sum(change.level is level for change in self.changes)
            for level in _SEVERITY
        }

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "current": self.current,
            "target": self.target,
            "counts": self.counts,
            "changes": [change.told() for change in self.changes],
        }

    def to_json(self) -> str:
        return orjson.dumps(self.told(), option=orjson.OPT_INDENT_2).decode()


def order(change: Change) -> tuple[int, Minor, Ref, str, str, str]:
    """The key that changes are sorted by."""
    since = minor_of(change.since) if change.since else (0, 0)
    place = dotted(change.path)
    return (
        _SEVERITY.index(change.level),
        since,
        change.subject,
        place,
        change.rule,
        change.reason,
    )
