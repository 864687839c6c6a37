"""What an upgrade would break for the users' own objects: the translator knows, lifecycle asks.

It is asked before the first write of an upgrade. Without an answer the upgrade goes on, because the
mesh's own objects do not depend on it; the events say what was not checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import MeshbusError
from services.chassis.kube.objects import KubeObject
from services.lifecycle.cluster.connections import Connection
from services.lifecycle.cluster.facts import configuration
from services.lifecycle.mesh.prechecks import Findings
from services.lifecycle.work import Work

_MOST_TOLD = 10

Report = Callable[[Sequence[KubeObject], str, str], Awaitable[dict[str, Any]]]
"""The translator's report for objects, from one version to another (`mesh.translator.upgrade`)."""


@dataclass(frozen=True, slots=True)
class UpgradeChecks:
    """Looks at a cluster's Istio configuration before its version changes."""

    report: Report

    async def check(self, work: Work, *, current: str, target: str) -> Findings:
        """Refusals for what the upgrade breaks, warnings for what it changes."""
        try:
            objects = await configuration(Connection(work.client, work.resources))
            report = await self.report(objects, current, target)
        except MeshbusError as error:
            return unchecked(error, current=current, target=target)
        return judged(report)


def judged(report: Mapping[str, Any]) -> Findings:
    """A report as refusals (its errors) and warnings, the first few of each."""
    changes = report.get("changes") or []

    def told(level: str) -> list[str]:
        return _bounded([_told(change) for change in changes if change.get("level") == level])

    return Findings(refusals=told("error"), warnings=told("warning"))


def unchecked(error: MeshbusError, *, current: str, target: str) -> Findings:
    """What is said when nobody could tell."""
    text = f"what {current} to {target} means for the cluster's objects was not checked"
    return Findings(warnings=[f"{text}: {error.summary}"])


def _told(change: dict[str, Any]) -> str:
    place = f" {change['path']}" if change.get("path") else ""
    remedy = f" ({change['remedy']})" if change.get("remedy") else ""
    return f"{change.get('object')}{place}: {change.get('reason')}{remedy}"


def _bounded(texts: list[str]) -> list[str]:
    more = len(texts) - _MOST_TOLD
    rest = [f"{more} more; `nats req mesh.translator.upgrade` lists them"] if more > 0 else []
    return texts[:_MOST_TOLD] + rest
