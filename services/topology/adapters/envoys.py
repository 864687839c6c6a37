"""Proxies' statistics: from admin interfaces at plain addresses, and from pods through an API
server.

A proxy's admin interface listens within its pod only. What the outside may read is the page that
Prometheus scrapes, and the API server's pod proxy leads there without a port being opened. Each
answer is bounded in size and time, and only so many are asked for at once: a mesh of a thousand
pods must not occupy the API server. One try is enough, because the next reading is due anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from datetime import timedelta
from urllib.parse import urlsplit

import aiohttp

from services.chassis.addresses import AddressPolicy, denied_address
from services.chassis.errors import MalformedRequest, MeshbusError
from services.chassis.http import answers
from services.chassis.kube.client import KubeClient
from services.chassis.reading.jsons import read_json
from services.topology.telemetry.envoy import Reading, Readings
from services.topology.telemetry.identities import ProxiedPod, peer_of_node
from services.topology.telemetry.stats import stats_of
from services.topology.telemetry.traffic import Peer

_MOST_BYTES = 16 * 1024 * 1024
_MOST_LISTED = 3
_ADMIN_QUERY = {
    "usedonly": "",
    "filter": r"istio_|^cluster\..+\.upstream_(rq_(\d\d\d|time)|cx_[rt]x_bytes_total)$",
}
"""By Envoy's own names. The page of an Envoy is mostly about other things."""
_SCRAPED_PORT = 15090


class _Unreadable(Exception):
    """One proxy's statistics cannot be had; the text says why."""


class EnvoyAdmins:
    """Admin interfaces at fixed addresses. `close` ends the kept connections."""

    def __init__(
        self,
        urls: Iterable[str],
        *,
        timeout: timedelta = timedelta(seconds=5),
        most_bytes: int = _MOST_BYTES,
        policy: AddressPolicy | None = None,
    ) -> None:
        """Raises `MalformedRequest` for an address that is not plain http or https."""
        self._policy = policy or AddressPolicy()
        self._urls = [_checked(url) for url in urls]
        self._timeout = aiohttp.ClientTimeout(total=timeout.total_seconds())
        self._most_bytes = most_bytes
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def readings(self) -> Readings:
        return _readings(await asyncio.gather(*(self._read(url) for url in self._urls)))

    async def _read(self, url: str) -> Reading | str:
        where = urlsplit(url).netloc
        try:
            info, stats = await asyncio.gather(
                self._get(f"{url}/server_info", {}),
                self._get(f"{url}/stats/prometheus", _ADMIN_QUERY),
            )
            peer = _peer(info)
            # A proxy of another name at the same address has counters of its own.
            return Reading(f"{url} {peer}", peer, stats_of(stats))
        except _Unreadable as error:
            return f"Envoy at {where} {error}"
        except ValueError:
            return f"what answers at {where} is no Envoy"

    async def _get(self, url: str, query: dict[str, str]) -> bytes:
        if self._session is None:
            self._session = answers.session(self._policy, timeout=self._timeout)
        try:
            async with self._session.get(url, params=query, allow_redirects=False) as response:
                if response.status != 200:
                    raise _Unreadable(f"answers with HTTP {response.status}")
                return await answers.read(
                    response, most_bytes=self._most_bytes, ratio=answers.RATIO
                )
        except answers.TooLarge:
            raise _Unreadable(f"tells more than {self._most_bytes} bytes") from None
        except answers.AnswerRefused as refused:
            raise _Unreadable(f"gives an answer that {refused}") from None
        except TimeoutError:
            raise _Unreadable("does not answer in time") from None
        except aiohttp.ClientError as error:
            if denied_address(error):
                raise _Unreadable("has an address that is not allowed") from None
            raise _Unreadable(f"cannot be reached ({type(error).__name__})") from None


class PodProxies:
    """Proxies in the pods of one cluster."""

    def __init__(
        self,
        client: KubeClient,
        pods: Callable[[], Iterable[ProxiedPod]],
        *,
        at_once: int = 8,
        most_pods: int = 1000,
        timeout: timedelta = timedelta(seconds=5),
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        """`pods` tells which there are at each reading; of more than `most_pods` the rest is left
        out, and told. `at_once` stays below the client's connections, which watches need too."""
        self._client = client
        self._pods = pods
        self._slots = asyncio.Semaphore(at_once)
        self._most_pods = most_pods
        self._timeout_s = timeout.total_seconds()
        self._most_bytes = most_bytes

    async def readings(self) -> Readings:
        pods = list(self._pods())
        asked = pods[: self._most_pods]
        found = _readings(await asyncio.gather(*(self._read(pod) for pod in asked)))
        left_out = len(pods) - len(asked)
        if left_out:
            return Readings(found.found, [*found.missing, f"{left_out} pods are left out"])
        return found

    async def _read(self, pod: ProxiedPod) -> Reading | str:
        where = f"{pod.namespace}/{pod.name}"
        path = (
            f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{_SCRAPED_PORT}"
            "/proxy/stats/prometheus"
        )
        try:
            async with self._slots, asyncio.timeout(self._timeout_s):
                body = await self._page(path)
        except TimeoutError:
            return f"the proxy of {where} does not answer in time"
        except MeshbusError as error:
            return f"the proxy of {where} cannot be read: {error.summary}"
        except _Unreadable as error:
            return f"the proxy of {where} {error}"
        return Reading(pod.uid or where, pod.peer, stats_of(body))

    async def _page(self, path: str) -> bytes:
        async with self._client.stream(
            path, query={"usedonly": ""}, read_timeout_s=self._timeout_s
        ) as content:
            return await _bounded(content, self._most_bytes)


async def _bounded(chunks: AsyncIterable[bytes], most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most_bytes:
            raise _Unreadable(f"tells more than {most_bytes} bytes")
    return bytes(body)


def _peer(server_info: bytes) -> Peer:
    info = read_json(server_info)
    if not isinstance(info, dict) or "node" not in info:
        raise ValueError("not Envoy's server_info")
    return peer_of_node(info)


def _readings(answers: Iterable[Reading | str]) -> Readings:
    """Lists a few failures and counts the rest, since a whole mesh may be away."""
    found, missing = [], []
    for answer in answers:
        if isinstance(answer, Reading):
            found.append(answer)
        else:
            missing.append(answer)
    listed = missing[:_MOST_LISTED]
    if len(missing) > _MOST_LISTED:
        listed.append(f"{len(missing) - _MOST_LISTED} more proxies cannot be read")
    return Readings(found, listed)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        is_plain = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_bare = not (parts.username or parts.query or parts.fragment) and parts.port != 0
    except ValueError:
        is_plain = is_bare = False
    if not (is_plain and is_bare):
        raise MalformedRequest(
            "an address of an Envoy must be http://HOST:PORT, without user information or query",
            subject="envoys",
        )
    return parts.geturl().rstrip("/")
