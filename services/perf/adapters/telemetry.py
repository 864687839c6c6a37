"""The Prometheus of a registered cluster, asked through the topology that watches the cluster.

Perf has no way into a cluster, and gets none for this: topology has found that Prometheus, reads it
with the account that watches, and answers queries over the service API.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import structlog

from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import ask
from services.chassis.errors import MeshbusError
from services.chassis.prometheus import Metrics, MetricsError, Sample, vector_of

_WITHIN = timedelta(seconds=10)
_NUMBER = "1"
"""A query that every Prometheus can answer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterMetrics:
    """Queries of one cluster, named by its token."""

    bus: Bus
    cluster: str

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        question = {"cluster": self.cluster, "query": text, "at": at.isoformat()}
        try:
            answer = await ask(
                self.bus, question, service="topology", verb="metrics", within=_WITHIN
            )
        except MeshbusError as error:
            raise MetricsError(f"{error.summary}: {error.cause}") from None
        return vector_of(answer)


async def cluster_metrics(bus: Bus, cluster: str) -> Metrics | None:
    """None where nobody watches the cluster, or where no Prometheus of it answers."""
    metrics = ClusterMetrics(bus, cluster)
    try:
        await metrics.query(_NUMBER, at=datetime.now(timezone.utc))
    except MetricsError as error:
        log.info("no_metrics_of_cluster", cluster=cluster, reason=str(error))
        return None
    return metrics
