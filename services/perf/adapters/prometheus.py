"""Prometheus's HTTP API: instant and range queries.

The address is given by whoever asks for a test, so little is taken for granted: only http and
https, no redirect is followed, an answer is read up to a bound and checked for its form, and of a
refusal only Prometheus's own words are told, cut. User information in the address is sent as basic
authentication and never told. The client library for Prometheus was rejected: it only exports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import orjson

from services.chassis.errors import LoadTestMalformed, shortened
from services.perf.distributions import Sample
from services.perf.telemetry import MetricsError

_MOST_BYTES = 16 * 1024 * 1024
_MOST_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a range query."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]
    """Unix seconds and values, in order."""


class PrometheusApi:
    """One Prometheus. A run asks a dozen queries, so no connection is kept between them."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: timedelta = timedelta(seconds=10),
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        """`timeout` is for one query. Raises `LoadTestMalformed` for a bad address."""
        self._base, self._headers = _checked(base_url)
        self._timeout_s = timeout.total_seconds()
        self._most_bytes = most_bytes

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        """Result of an instant query; a scalar is one sample without labels."""
        kind, result = await self._ask("query", {"query": text, "time": f"{at.timestamp():.3f}"})
        if kind not in ("scalar", "vector"):
            raise MetricsError(f"Prometheus answered with a {shortened(kind)}, not with a vector")
        with _as_documented():
            if kind == "scalar":
                return [Sample({}, float(result[1]))]
            # A native histogram has no value; the mesh's metrics have none of those.
            return [
                Sample(one["metric"], float(one["value"][1])) for one in result if "value" in one
            ]

    async def query_range(
        self, text: str, *, start: datetime, end: datetime, step_s: float
    ) -> list[Series]:
        """Result of a range query."""
        form = {
            "query": text,
            "start": f"{start.timestamp():.3f}",
            "end": f"{end.timestamp():.3f}",
            "step": f"{step_s:g}",
        }
        kind, result = await self._ask("query_range", form)
        if kind != "matrix":
            raise MetricsError(f"Prometheus answered with a {shortened(kind)}, not with a matrix")
        with _as_documented():
            return [
                Series(one["metric"], tuple((float(at), float(v)) for at, v in one["values"]))
                for one in result
                if "values" in one
            ]

    async def _ask(self, verb: str, form: Mapping[str, str]) -> tuple[str, Any]:
        url = f"{self._base}/api/v1/{verb}"
        # Prometheus gives up when nobody waits any more.
        data = {**form, "timeout": f"{self._timeout_s:g}s"}
        try:
            async with (
                self._connected() as session,
                session.post(url, data=data, allow_redirects=False) as response,
            ):
                return _result(response.status, await self._body(response))
        except TimeoutError:
            raise MetricsError(f"Prometheus did not answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            # Its text may hold the address.
            raise MetricsError(f"Prometheus cannot be reached ({type(error).__name__})") from None

    def _connected(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            # No proxy, no .netrc: where queries go is the address's business alone.
            trust_env=False,
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """The answer, unpacked, up to a bound."""
        most = self._most_bytes if response.status == 200 else _MOST_ERROR_BYTES
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > most:
                raise MetricsError(f"Prometheus's answer is longer than {most} bytes")
        return bytes(body)


def _checked(base_url: str) -> tuple[str, dict[str, str]]:
    """The address without user information, and that as a header."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise _malformed("is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _malformed("must begin with http:// or https:// and name a host")
    if parts.query or parts.fragment:
        raise _malformed("must not have a query or a fragment")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port}" if port is not None else host
    headers = {}
    if parts.username:
        name, password = unquote(parts.username), unquote(parts.password or "")
        headers["Authorization"] = aiohttp.encode_basic_auth(name, password, encoding="utf-8")
    return f"{parts.scheme}://{address}{parts.path.rstrip('/')}", headers


def _malformed(why: str) -> LoadTestMalformed:
    # The address itself may hold a password.
    return LoadTestMalformed(f"`prometheus` {why}", subject="prometheus")


@contextmanager
def _as_documented() -> Iterator[None]:
    """Reads an answer; one of another form is no Prometheus's."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError):
        raise MetricsError("the address's answer has not the form of Prometheus's API") from None


def _result(status: int, body: bytes) -> tuple[str, Any]:
    if 300 <= status < 400:
        raise MetricsError("Prometheus's address redirects elsewhere; name the last one")
    with _as_documented():
        answer = orjson.loads(body)
        if answer["status"] == "success":
            return str(answer["data"]["resultType"]), answer["data"]["result"]
        said = f"{answer['errorType']}: {answer['error']}"
    raise MetricsError(f"Prometheus refused the query: {shortened(said)}")
