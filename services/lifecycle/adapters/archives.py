"""Fetches release archives over HTTP, with the sum that is published beside each.

The layout is that of Istio's releases page on GitHub, which mirrors keep:
`<address>/<version>/istio-<version>-<system>-<processor>.tar.gz`, and the same with `.sha256`.
GitHub redirects to its storage, so redirects are followed, each to an address that the policy
allows.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
from yarl import URL

from services.chassis.addresses import AddressPolicy, denied_address
from services.chassis.errors import MeshbusError, ReleaseRefused, ReleaseUnavailable, VersionUnknown
from services.chassis.http.answers import AnswerRefused, pieces, read, session

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS = 4
_SUM_BYTES = 4096
_SUM = re.compile(rb"\s*([0-9A-Fa-f]{64})\b")
_NO_RATIO = 1000
"""Nothing is unpacked here: archives are asked for as they are."""
_SILENT_S = 30.0
_PROCESSORS = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Archives:
    """Releases at one address."""

    base: str
    policy: AddressPolicy
    within: timedelta
    """For one archive."""
    most_bytes: int

    @property
    def address(self) -> str:
        """Without what may be a password in it."""
        return str(URL(self.base).with_user(None).with_query(None))

    async def fetch(self, version: str, into: Path, told: Callable[[int, int], None]) -> str:
        """See `releases/fetching.py`."""
        timeout = aiohttp.ClientTimeout(total=self.within.total_seconds(), sock_read=_SILENT_S)
        name = f"istio-{version}-{machine()}.tar.gz"
        url = URL(f"{self.base.rstrip('/')}/{version}/{name}")
        headers = {"Accept-Encoding": "identity"}
        try:
            async with session(self.policy, timeout=timeout, headers=headers) as client:
                published = await self._sum(client, url, version)
                found = await self._archive(client, url, version, into, told)
        except MeshbusError:
            raise
        except AnswerRefused as error:
            raise ReleaseRefused(f"{name} {error}") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if address := denied_address(error):
                raise self.policy.denial(address, subject=str(url.host)) from None
            raise self._unavailable(name, error) from None
        if found != published:
            raise ReleaseRefused(
                f"{name} has the sha256 {found}, and the published one is {published}",
                cause="the archive was changed or cut off on its way, or its mirror is not whole",
            )
        return found

    def _unavailable(self, name: str, error: Exception) -> ReleaseUnavailable:
        is_late = isinstance(error, TimeoutError)
        why = "came too slowly" if is_late else f"did not come whole ({type(error).__name__})"
        return ReleaseUnavailable(f"{name} from {self.address} {why}")

    async def _sum(self, client: aiohttp.ClientSession, url: URL, version: str) -> str:
        async with self._got(client, url.with_name(f"{url.name}.sha256"), version) as response:
            text = await read(response, most_bytes=_SUM_BYTES, ratio=_NO_RATIO)
        found = _SUM.match(text)
        if found is None:
            raise ReleaseRefused(f"{url.name}.sha256 holds no sum")
        return found[1].decode().lower()

    async def _archive(
        self,
        client: aiohttp.ClientSession,
        url: URL,
        version: str,
        into: Path,
        told: Callable[[int, int], None],
    ) -> str:
        """Its sha256."""
        digest, size = hashlib.sha256(), 0
        async with self._got(client, url, version) as response:
            whole = response.content_length or 0
            with into.open("xb") as written:
                async for piece in pieces(response, ratio=_NO_RATIO):
                    size += len(piece)
                    if max(size, whole) > self.most_bytes:
                        raise ReleaseRefused(f"{url.name} is longer than {self.most_bytes} bytes")
                    digest.update(piece)
                    written.write(piece)
                    told(size, whole)
        return digest.hexdigest()

    @asynccontextmanager
    async def _got(
        self, client: aiohttp.ClientSession, url: URL, version: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer with the content, behind redirects."""
        for _ in range(_MOST_HOPS):
            async with client.get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    self._require_found(response, url, version)
                    yield response
                    return
                following = url.join(URL(response.headers.get("Location", "")))
            if following.scheme not in ("http", "https") or (url.scheme, following.scheme) == (
                "https",
                "http",
            ):
                raise ReleaseUnavailable(f"{self.address} leads to an address without TLS")
            url = following
        raise ReleaseUnavailable(f"{self.address} redirects without end")

    def _require_found(self, response: aiohttp.ClientResponse, url: URL, version: str) -> None:
        if response.status == 404:
            raise VersionUnknown(
                f"there is no release of Istio {version} at {self.address}",
                cause=f"it has no {url.name}",
                remedy="name a version that was released, or put its distribution into the folder",
            )
        if response.status != 200:
            raise ReleaseUnavailable(f"{self.address} answers {response.status}")


def machine() -> str:
    """As archives are named: `linux-amd64`."""
    system = {"darwin": "osx"}.get(sys.platform, "linux")
    found = platform.machine()
    return f"{system}-{_PROCESSORS.get(found, found)}"
