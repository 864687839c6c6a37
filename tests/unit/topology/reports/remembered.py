"""A history in memory, as the stream COMPLIANCE keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.errors import MeshbusError
from services.topology.reports import history
from services.topology.reports.compliance import ClusterReport
from services.topology.reports.history import ComplianceSums, ComplianceWorkloads


@dataclass(slots=True)
class Remembered:
    """Implements `history.Kept` and `recording.Histories`."""

    told: list[tuple[ComplianceSums, ComplianceWorkloads]] = field(default_factory=list)
    failure: MeshbusError | None = None

    def add(self, report: ClusterReport) -> None:
        self.told.append(history.kept(report))

    async def last(self, cluster: str) -> ComplianceSums | None:
        (found,) = await self.sums([cluster], [None])
        return found.get(cluster)

    async def store(self, sums: ComplianceSums, workloads: ComplianceWorkloads) -> None:
        self._may()
        self.told.append((sums, workloads))

    async def sums(
        self, clusters: Sequence[str], moments: Sequence[datetime | None]
    ) -> list[dict[str, ComplianceSums]]:
        self._may()
        return [
            {
                sums.cluster: sums
                for sums, _ in self.told
                if sums.cluster in clusters and (moment is None or sums.made <= moment)
            }
            for moment in moments
        ]

    async def workloads(
        self, clusters: Sequence[str], moments: Sequence[datetime | None]
    ) -> list[dict[str, ComplianceWorkloads]]:
        self._may()
        return [
            {
                one.cluster: one
                for _, one in self.told
                if one.cluster in clusters and (moment is None or one.made <= moment)
            }
            for moment in moments
        ]

    def _may(self) -> None:
        if self.failure is not None:
            raise self.failure
