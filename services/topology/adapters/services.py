"""A Prometheus in the cluster, asked through the API server's proxy of its Service.

Nothing of it has to be open to the outside, and the account that watches the cluster is all that is
needed: `get` on `services/proxy`. Queries are sent by GET for that, since a POST would need
`create`; the longest has some 8 KB, where API servers take a megabyte of headers. The API server
leads to pods only, not to addresses outside of the cluster.

Whoever owns the cluster chose what answers, so it is read within the bounds of the cluster's other
answers. One try is enough, because the next round is due anyway.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.chassis.errors import ClusterForbidden, MeshbusError
from services.chassis.kube.client import KubeClient
from services.chassis.prometheus import QUERY, MetricsError, Sample, form_of, samples_of
from services.topology.telemetry.discovering import MetricsDenied

_AT_ONCE = 8
_MOST_VALUES = 4_000_000
"""In one answer: a sample has a dozen."""


@dataclass(frozen=True, slots=True)
class ServicePrometheus:
    """One Prometheus behind a Service."""

    client: KubeClient
    path: str
    """Of the proxy, up to what Prometheus serves."""
    timeout: timedelta
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    """Fewer than the client's connections, which watches need, too."""

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        within_s = self.timeout.total_seconds()
        query = form_of(text, at=at, within_s=within_s)
        try:
            async with self._free, asyncio.timeout(within_s):
                answer = await self.client.passed_on(
                    f"{self.path}/{QUERY}", query=query, subject="service proxy"
                )
        except TimeoutError:
            raise MetricsError(f"Prometheus did not answer within {within_s:g} s") from None
        except ClusterForbidden as error:
            raise MetricsDenied(
                f"{error.code} the account may not `get` `services/proxy`; {error.remedy}"
            ) from None
        except MeshbusError as error:
            raise MetricsError(error.summary) from None
        return samples_of(answer.code, answer.body, most_values=_MOST_VALUES)
