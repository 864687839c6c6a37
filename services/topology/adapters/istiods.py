"""Control planes and agents of one cluster, asked through its API server.

istiod tells its debug pages to its own machine alone, or to an identity of its system namespace: a
right that no kubeconfig has by itself, since the API server's proxy takes the Authorization header
for itself. So they are read as `istioctl` reads them, through a forwarded port. Metrics, istiod's
and the agents', are open to all, and the API server's pod proxy leads there.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.chassis.errors import (
    AnswerTooLarge,
    AnswerUnusable,
    ClusterUnreachable,
    TooManyValues,
)
from services.chassis.kube.client import KubeClient
from services.chassis.kube.forwarding import page_of
from services.topology.cluster.objects import Pod
from services.topology.proxies.told import (
    AGENTS_QUERY,
    Figures,
    ToldProxy,
    Word,
    read_figures,
    read_syncz,
    read_word,
)

_MONITORING_PORT = 15014
_AGENT_PORT = 15020
MOST_BYTES = 32 * 1024 * 1024
"""Three kilobytes for each proxy: ten thousand at one istiod."""
_METRICS_BYTES = 8 * 1024 * 1024
# Proxies that are read before others in the process get their turn.
_AT_ONCE = 500
# An application's own metrics stand at the end of its agent's page, and may be long.
_WORD_BYTES = 256 * 1024


class ClusterProxies:
    """Implements `surveying.Source`; one try each, for the next question is due anyway."""

    def __init__(
        self,
        client: KubeClient,
        *,
        port: int = _MONITORING_PORT,
        within: timedelta = timedelta(seconds=10),
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`within` is for an istiod; an agent has half of it."""
        self._client = client
        self._port = port
        self._within = within
        self._most_bytes = most_bytes

    async def proxies(self, istiod: Pod) -> list[ToldProxy]:
        """All that are connected to it."""
        body = await page_of(
            self._client,
            namespace=istiod.namespace,
            pod=istiod.name,
            port=self._port,
            path="/debug/syncz",
            most_bytes=self._most_bytes,
            within=self._within,
        )
        where = f"istiod {istiod.namespace}/{istiod.name}"
        found: list[ToldProxy] = []
        try:
            for proxy in read_syncz(body):
                found.append(proxy)
                if len(found) % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            return found
        except TooManyValues:
            raise AnswerTooLarge(f"{where} tells of too many proxies", subject=where) from None
        except ValueError:
            raise AnswerUnusable(
                f"{where} does not tell of proxies as istiod does",
                subject=where,
                cause="another program answers there, or ENABLE_DEBUG_ON_HTTP is off",
                remedy="look at what listens on port 15014 of the pod",
            ) from None

    async def figures(self, istiod: Pod) -> Figures:
        """What it counts."""
        return read_figures(
            await self._page(
                istiod, self._port, "metrics", {}, most_bytes=_METRICS_BYTES, within=self._within
            )
        )

    async def word(self, pod: Pod) -> Word:
        """What the agent of a proxy says of it."""
        return read_word(
            await self._page(
                pod,
                _AGENT_PORT,
                "stats/prometheus",
                AGENTS_QUERY,
                most_bytes=_WORD_BYTES,
                within=self._within / 2,
            )
        )

    async def _page(
        self,
        pod: Pod,
        port: int,
        path: str,
        query: dict[str, str],
        *,
        most_bytes: int,
        within: timedelta,
    ) -> bytes:
        """The beginning of a page; what comes after `most_bytes` is not read."""
        whole = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{port}/proxy/{path}"
        body = bytearray()
        within_s = within.total_seconds()
        try:
            async with (
                asyncio.timeout(within_s),
                self._client.stream(whole, query=query, read_timeout_s=within_s) as content,
            ):
                async for chunk in content:
                    body += chunk
                    if len(body) > most_bytes:
                        break
        except TimeoutError:
            where = f"port {port} of pod {pod.namespace}/{pod.name}"
            raise ClusterUnreachable(f"{where} does not answer in time", subject=where) from None
        return bytes(body)
