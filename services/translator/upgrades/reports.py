"""The report of an upgrade: which changes it brings to which object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.istio.versions import Minor, minor_of
from services.translator.reports import Finding, Level

_SEVERITY = (Level.ERROR, Level.WARNING, Level.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change that the upgrade brings to one object, or to the mesh as a whole."""

    finding: Finding
    """Its rule is `kind`, `api-version` or `schema` for what the definitions lost,
    `upgrade/<minor>/<key>` for what Istio does differently, else that of a check, such as IST0151.
    """
    since: str
    """The minor that brings it, such as 1.31; "" for a finding that the upgrade does not change."""
    rewritten: KubeObject | None = None
    """The whole object in a form that works after the upgrade as it does before."""

    @property
    def order(self) -> tuple[int, Minor, Ref, str, str, str]:
        """Errors first, then the older minors, then by object and place."""
        found = self.finding
        since = minor_of(self.since) if self.since else (0, 0)
        severity = _SEVERITY.index(found.level)
        return (severity, since, found.subject, found.place, found.rule, found.message)

    def as_json(self) -> dict[str, Any]:
        return {
            "level": self.finding.level.value,
            "rule": self.finding.rule,
            "since": self.since,
            "object": str(self.finding.subject),
            "path": self.finding.place,
            "reason": self.finding.message,
            "remedy": self.finding.remedy,
            "rewritten": self.rewritten,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeReport:
    """All changes, in their order."""

    current: str
    target: str
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Changes of each level; every level is there."""
        levels = [change.finding.level for change in self.changes]
        return {level.value: levels.count(level) for level in _SEVERITY}

    def as_json(self) -> dict[str, Any]:
        return {
            "current": self.current,
            "target": self.target,
            "counts": self.counts,
            "changes": [change.as_json() for change in self.changes],
        }
