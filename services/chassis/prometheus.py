"""Prometheus's HTTP API: instant queries, for perf's verdicts and topology's traffic.

The address may be given by whoever asks for a test, so little is taken for granted: only http and
https, addresses that the policy allows, no redirect, an answer is read up to a bound and checked
for its form, and of a refusal only Prometheus's own words are told, cut. User information in the
address is sent as basic authentication and never told. The client library for Prometheus was
rejected: it only exports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import aiohttp
import orjson

from services.chassis.addresses import AddressPolicy, denied_address
from services.chassis.errors import MalformedRequest, MeshbusError, TooManyValues, shortened
from services.chassis.http import answers
from services.chassis.memory import uncollected
from services.chassis.reading.jsons import read_json
from services.chassis.reading.limits import Budget

QUERY = "api/v1/query"
_MOST_BYTES = 16 * 1024 * 1024
_MOST_ERROR_BYTES = 64 * 1024


class MetricsError(Exception):
    """A query got no answer that can be used; the text says why, and holds no secret."""


class Sample(NamedTuple):
    """One value of an instant query. A tuple, because the traffic of a mesh is many thousands."""

    labels: Mapping[str, str]
    value: float


class Metrics(Protocol):
    """The queries of a Prometheus, however it is reached."""

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        """Result of an instant query; a scalar is one sample without labels. Raises
        `MetricsError`."""
        ...


class PrometheusApi:
    """One Prometheus. Kept connections are for those who ask again and again; others open one for
    each query and have nothing to close."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: timedelta = timedelta(seconds=10),
        most_bytes: int = _MOST_BYTES,
        is_kept: bool = False,
        malformed: type[MeshbusError] = MalformedRequest,
        policy: AddressPolicy | None = None,
        ratio: int = answers.RATIO,
    ) -> None:
        """`timeout` is for one query. With `is_kept`, `close` must be called at the end. Raises
        `malformed` for a bad address; one that `policy` denies is told by the query."""
        self._base, self._headers = _checked(base_url, malformed)
        self._timeout_s = timeout.total_seconds()
        self._most_bytes = most_bytes
        self._is_kept = is_kept
        self._policy = policy or AddressPolicy()
        self._ratio = ratio
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends kept connections; a later query opens them again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        url = f"{self._base}/{QUERY}"
        try:
            async with (
                self._connected() as session,
                session.post(
                    url, data=form_of(text, at=at, within_s=self._timeout_s), allow_redirects=False
                ) as response,
            ):
                return samples_of(response.status, await self._body(response))
        except TimeoutError:
            raise MetricsError(f"Prometheus did not answer within {self._timeout_s:g} s") from None
        except answers.AnswerRefused as refused:
            raise MetricsError(f"Prometheus's answer {refused}") from None
        except aiohttp.ClientError as error:
            if denied_address(error):
                raise MetricsError("Prometheus's address is not allowed") from None
            # Its text may hold the address.
            raise MetricsError(f"Prometheus cannot be reached ({type(error).__name__})") from None

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiohttp.ClientSession]:
        if not self._is_kept:
            async with self._new_session() as session:
                yield session
            return
        if self._session is None:
            self._session = self._new_session()
        yield self._session

    def _new_session(self) -> aiohttp.ClientSession:
        return answers.session(
            self._policy,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """The answer, unpacked, up to a bound."""
        most = self._most_bytes if response.status == 200 else _MOST_ERROR_BYTES
        return await answers.read(response, most_bytes=most, ratio=self._ratio)


def form_of(text: str, *, at: datetime, within_s: float) -> dict[str, str]:
    """What is sent with an instant query."""
    # Prometheus gives up when nobody waits any more. Its durations are whole numbers.
    timeout = f"{max(1, round(within_s * 1000))}ms"
    return {"query": text, "time": f"{at.timestamp():.3f}", "timeout": timeout}


def samples_of(status: int, body: bytes, *, most_values: int | None = None) -> list[Sample]:
    """The samples of an answer to an instant query; raises `MetricsError`.

    `most_values` bounds what is read of a Prometheus that nobody here has chosen.
    """
    return vector_of(_data(status, body, most_values))


def vector_of(data: Any) -> list[Sample]:
    """The samples of an answer's `data`; raises `MetricsError`."""
    with _as_documented():
        kind, result = data["resultType"], data["result"]
    if kind not in ("scalar", "vector"):
        told = shortened(str(kind))
        raise MetricsError(f"Prometheus answered with a {told}, not with a vector")
    with _as_documented():
        if kind == "scalar":
            return [Sample({}, float(result[1]))]
        return _samples(result)


def _checked(base_url: str, malformed: type[MeshbusError]) -> tuple[str, dict[str, str]]:
    """The address without user information, and that as a header."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise _refusal(malformed, "is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refusal(malformed, "must begin with http:// or https:// and name a host")
    if parts.query or parts.fragment:
        raise _refusal(malformed, "must not have a query or a fragment")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port}" if port is not None else host
    headers = {}
    if parts.username:
        name, password = unquote(parts.username), unquote(parts.password or "")
        headers["Authorization"] = aiohttp.encode_basic_auth(name, password, encoding="utf-8")
    return f"{parts.scheme}://{address}{parts.path.rstrip('/')}", headers


def _refusal(malformed: type[MeshbusError], why: str) -> MeshbusError:
    # The address itself may hold a password.
    return malformed(f"`prometheus` {why}", subject="prometheus")


@contextmanager
def _as_documented() -> Iterator[None]:
    """Reads an answer; one of another form is no Prometheus's."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError):
        raise MetricsError("the address's answer has not the form of Prometheus's API") from None


def _samples(result: list[Any]) -> list[Sample]:
    """The samples of a vector. Native histograms have no value, and Istio exports none."""
    new = tuple.__new__  # twice as fast as Sample's own
    with uncollected():
        return [
            new(Sample, (one["metric"], float(one["value"][1]))) for one in result if "value" in one
        ]


def _data(status: int, body: bytes, most_values: int | None) -> Any:
    if 300 <= status < 400:
        raise MetricsError("Prometheus's address redirects elsewhere; name the last one")
    with _as_documented(), uncollected():
        answer = orjson.loads(body) if most_values is None else _within(body, most_values)
        if answer["status"] == "success":
            return answer["data"]
        said = f"{answer['errorType']}: {answer['error']}"
    raise MetricsError(f"Prometheus refused the query: {shortened(said)}")


def _within(body: bytes, most_values: int) -> Any:
    try:
        return read_json(body, budget=Budget.fresh(nodes=most_values))
    except TooManyValues:
        raise MetricsError(f"Prometheus's answer holds more than {most_values} values") from None
