"""Compliance over time: what is kept of a report, the lines that come of it, and what changed.

Of each cluster two messages are kept now and then: sums by namespace and team, from which lines are
drawn, and how each workload did, which is read for two moments only, to tell what changed between
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import orjson
from pydantic import AwareDatetime, Field

from services.chassis.bus.subjects import hash_token
from services.chassis.messages.models import Message, Piece
from services.topology.reports.checks import Check, judged
from services.topology.reports.compliance import ClusterReport

KEPT_FOR = timedelta(days=90)
AT_LEAST_EVERY = timedelta(days=1)
"""So often it is kept as well when nothing changed: silence means that nobody looked."""
_HOLDS_FOR = 1.5 * AT_LEAST_EVERY
"""After that nothing is known any more."""
MOST_WORKLOADS = 5_000
"""Of one cluster: what is kept of it is one message. Those that fail something go first."""
MOMENTS = 60
"""Places on a line, from the first moment that was asked for to the last."""
_MOST_CHANGES = 1_000


class By(StrEnum):
    """What workloads are summed by."""

    CLUSTER = "cluster"
    NAMESPACE = "namespace"
    TEAM = "team"


class KeptWorkload(Piece):
    """How one workload did. A check that stands in neither list does not concern it."""

    kind: str
    namespace: str
    name: str
    team: str = ""
    passing: list[str] = Field(default_factory=list)
    failing: list[str] = Field(default_factory=list)


class KeptGroup(Piece):
    """Sums over the workloads of one namespace that belong to one team."""

    namespace: str
    team: str = ""
    workloads: int
    passing: dict[str, int] = Field(default_factory=dict)
    failing: dict[str, int] = Field(default_factory=dict)


class ComplianceSums(Message):
    """What a cluster came to: kept on `compliance.<cluster>.sums`."""

    cluster: str
    name: str
    made: AwareDatetime
    groups: list[KeptGroup]
    digest: str
    """Of how each workload did: another one when anything changed."""


class ComplianceWorkloads(Message):
    """How each workload of it did: kept on `compliance.<cluster>.workloads`."""

    cluster: str
    made: AwareDatetime
    workloads: list[KeptWorkload]
    left_out: int = 0
    """Workloads beyond what one message holds."""


class Kept(Protocol):
    """The history of all clusters; each question may raise `BusUnavailable`."""

    async def sums(
        self, clusters: Sequence[str], moments: Sequence[datetime | None]
    ) -> list[dict[str, ComplianceSums]]:
        """For each moment, by cluster, what was kept last until then; for None, last of all."""

    async def workloads(
        self, clusters: Sequence[str], moments: Sequence[datetime | None]
    ) -> list[dict[str, ComplianceWorkloads]]:
        """The same of each workload."""


# --- what is kept ---------------------------------------------------------------------------------


def kept(report: ClusterReport) -> tuple[ComplianceSums, ComplianceWorkloads]:
    """What is kept of a report."""
    workloads = [_workload(line.posture.object, line.team, judged(line)) for line in report.lines]
    workloads.sort(key=lambda one: (not one.failing, one.namespace, one.kind, one.name))
    told = [one.model_dump(mode="json") for one in workloads]
    shared: dict[str, Any] = {"cluster": report.cluster, "made": report.made}
    return (
        ComplianceSums(
            **shared,
            name=report.name or report.cluster,
            groups=_groups(workloads),
            digest=hash_token(orjson.dumps(told)),
        ),
        ComplianceWorkloads(
            **shared,
            workloads=workloads[:MOST_WORKLOADS],
            left_out=max(0, len(workloads) - MOST_WORKLOADS),
        ),
    )


def _workload(key: Any, team: str, checks: Iterable[tuple[Check, bool]]) -> KeptWorkload:
    found = list(checks)
    return KeptWorkload(
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        team=team,
        passing=[check.value for check, passes in found if passes],
        failing=[check.value for check, passes in found if not passes],
    )


def _groups(workloads: Iterable[KeptWorkload]) -> list[KeptGroup]:
    found: dict[tuple[str, str], _Sums] = {}
    for one in workloads:
        sums = found.setdefault((one.namespace, one.team), _Sums())
        sums.add(1, dict.fromkeys(one.passing, 1), dict.fromkeys(one.failing, 1))
    return [
        KeptGroup(namespace=namespace, team=team, **sums.told())
        for (namespace, team), sums in sorted(found.items())
    ]


@dataclass(slots=True)
class _Sums:
    workloads: int = 0
    passing: dict[str, int] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)

    def add(self, workloads: int, passing: Mapping[str, int], failing: Mapping[str, int]) -> None:
        self.workloads += workloads
        for into, some in ((self.passing, passing), (self.failing, failing)):
            for check, count in some.items():
                into[check] = into.get(check, 0) + count

    def told(self) -> dict[str, Any]:
        return {"workloads": self.workloads, "passing": self.passing, "failing": self.failing}


# --- lines ----------------------------------------------------------------------------------------


def moments(since: datetime, until: datetime) -> list[datetime]:
    """Where a line between two moments has its places, both ends among them."""
    step = (until - since) / (MOMENTS - 1)
    return [*(since + step * place for place in range(MOMENTS - 1)), until]


def lines(
    found: Sequence[tuple[datetime, Mapping[str, ComplianceSums]]], by: By
) -> list[dict[str, Any]]:
    """The sums of each group at each moment; null where nothing is known of it."""
    columns = [_column(at, kept.values(), by) for at, kept in found]
    keys = sorted({key for column in columns for key in column}, key=lambda key: (not key, key))
    return [
        {
            "key": key,
            "points": [column[key].told() if key in column else None for column in columns],
        }
        for key in keys
    ]


def _column(at: datetime, clusters: Iterable[ComplianceSums], by: By) -> dict[str, _Sums]:
    column: dict[str, _Sums] = {}
    for sums in clusters:
        if at - sums.made > _HOLDS_FOR:
            continue
        for group in sums.groups:
            key = sums.name if by is By.CLUSTER else getattr(group, by.value)
            column.setdefault(key, _Sums()).add(group.workloads, group.passing, group.failing)
    return column


# --- what changed ---------------------------------------------------------------------------------


class Became(StrEnum):
    """What became of a workload's check between two moments."""

    FAILED = "failed"
    """It passed, or did not concern the workload."""
    CAME = "came"
    """The workload is new, and fails it."""
    MENDED = "mended"
    GONE = "gone"
    """The workload that failed it is not there any more."""


def changes(
    before: Mapping[str, ComplianceWorkloads], after: Mapping[str, ComplianceWorkloads]
) -> dict[str, Any]:
    """What began and what ceased to fail between two moments, of clusters known at both."""
    found = [
        change
        for cluster in sorted(before.keys() & after.keys())
        for change in _changes(cluster, before[cluster], after[cluster])
    ]
    return {"changes": found[:_MOST_CHANGES], "left_out": max(0, len(found) - _MOST_CHANGES)}


def _changes(
    cluster: str, before: ComplianceWorkloads, after: ComplianceWorkloads
) -> Iterator[dict[str, str]]:
    then = {(one.namespace, one.kind, one.name): one for one in before.workloads}
    now = {(one.namespace, one.kind, one.name): one for one in after.workloads}
    for key in sorted(then.keys() | now.keys()):
        was, is_ = then.get(key), now.get(key)
        # Of a list that was cut nothing can be said of what is not in it.
        if (was is None and before.left_out) or (is_ is None and after.left_out):
            continue
        for check, became in _of_workload(was, is_):
            one = is_ or was
            assert one is not None
            yield {
                "cluster": cluster,
                "kind": one.kind,
                "namespace": one.namespace,
                "name": one.name,
                "team": one.team,
                "check": check,
                "became": became.value,
            }


def _of_workload(
    was: KeptWorkload | None, is_: KeptWorkload | None
) -> Iterator[tuple[str, Became]]:
    if is_ is None:
        yield from ((check, Became.GONE) for check in (was.failing if was else ()))
        return
    failed = set(was.failing) if was is not None else set()
    begun = Became.CAME if was is None else Became.FAILED
    yield from ((check, begun) for check in is_.failing if check not in failed)
    # What nobody can tell any more is not mended.
    yield from ((check, Became.MENDED) for check in is_.passing if check in failed)
