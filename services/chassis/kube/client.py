"""A raw asynchronous client of API servers, on aiohttp.

The package `kubernetes` is not used: its typed layer decodes ten times slower than orjson, so
requests and answers are bytes here; its transport wants certificate files, and keys must not touch
a disk; it unpacks answers without a bound, and connects to whatever a name resolves to. A
kubeconfig is a stranger's text, so what answers at its address is believed little: no redirect is
followed, an answer is read up to a bound, and of an error only the message of a `metav1.Status` is
told, because anything else may be another service's page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
from opentelemetry.trace import SpanKind

from services.chassis.addresses import AddressPolicy, denied_address
from services.chassis.errors import (
    AnswerTooLarge,
    ClusterFailed,
    ClusterForbidden,
    ClusterOverloaded,
    ClusterUnauthorized,
    ClusterUnreachable,
    InternalError,
    KubeconfigMalformed,
    MeshbusError,
    ObjectNotFound,
    TooManyValues,
)
from services.chassis.http import answers
from services.chassis.http.answers import Bounds
from services.chassis.kube.kubeconfigs import Kubeconfig
from services.chassis.kube.refusals import error_of, is_status, refusal, unusable
from services.chassis.reading.jsons import read_json
from services.chassis.reading.limits import Budget
from services.chassis.telemetry import metrics, traces

CONNECTIONS = 16
_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 30.0
_GOODBYE_TIMEOUT_S = 0.5
# A server ends every request after a minute by itself; one that drips must not hold a slot longer.
_WHOLE_TIMEOUT_S = 90.0
# Kubernetes watch events can be longer than aiohttp's usual buffer.
_BUFFER_BYTES = 2**20
# Of one answer: a page of 500 objects has a few hundred thousand.
_MOST_VALUES = 1_000_000
_MOST_ERROR_BYTES = 1024 * 1024
# Of all clients in this process: its memory is one.
_LONG_ANSWERS = answers.LongAnswers()
_RETRY_WITHIN = timedelta(seconds=45)
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 3.0
# How long a refusal is not believed of a server that is not ready.
_STARTING_WITHIN = timedelta(seconds=10)
_STARTING_DELAY_S = 0.2
_WRITES = frozenset({"PATCH", "POST", "PUT", "DELETE"})

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"


def tls_context(config: Kubeconfig) -> ssl.SSLContext:
    """TLS for one kubeconfig; the client key passes through a file in memory only."""
    try:
        context = ssl.create_default_context(cadata=config.ca_pem.decode("ascii") or None)
        if not config.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        # Clusters made by older kubeadm have CAs without a key identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if config.client_certificate_pem:
            _load_client_certificate(context, config)
    except (ssl.SSLError, ValueError):
        raise KubeconfigMalformed("the kubeconfig's certificates cannot be used") from None
    return context


def _load_client_certificate(context: ssl.SSLContext, config: Kubeconfig) -> None:
    # The ssl module reads certificate chains from paths only; memfd is a path without a disk.
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        pem = config.client_certificate_pem.rstrip() + b"\n" + config.client_key_pem
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of a request that the server carried out."""

    code: int
    body: bytes
    subject: str = ""
    date: str = ""
    """The server's clock, as HTTP tells it."""

    def json(self) -> Any:
        """The decoded body; raises `AnswerUnusable`, or `AnswerTooLarge` for too many values."""
        try:
            return read_json(self.body, budget=Budget.fresh(nodes=_MOST_VALUES))
        except TooManyValues as error:
            raise AnswerTooLarge(f"{self.subject}: {error.summary}", subject=self.subject) from None
        except ValueError:
            raise unusable(self.subject, "is not JSON") from None

    def decoded(self) -> dict[str, Any]:
        """The same of an object, as every answer to a GET is."""
        found = self.json()
        if not isinstance(found, dict):
            raise unusable(self.subject, "is not an object")
        return found


class KubeClient:
    """Requests to one API server, retried while that is safe: every call here is idempotent."""

    def __init__(
        self,
        config: Kubeconfig,
        *,
        counted: metrics.Metrics | None = None,
        connections: int = CONNECTIONS,
        policy: AddressPolicy | None = None,
        bounds: Bounds | None = None,
        is_read_only: bool = False,
    ) -> None:
        """`connections` at a time; a watch holds one for as long as it lasts. Where it may connect
        to is `policy`'s, how much it reads of an answer `bounds`'. With `is_read_only` it sends no
        request but GET, whatever the credential may do."""
        self.config = config
        self.has_answered = False
        """Whether the server has ever answered as one that works."""
        self.last_failure: MeshbusError | None = None
        """Why it did not, last time."""
        self.serves_watch_list = True
        """Until the server refuses to stream a collection's objects (`watching.py`)."""
        self.bounds = bounds or Bounds()
        self._policy = policy or AddressPolicy()
        self._tls = tls_context(config)
        self._connections = connections
        self._is_read_only = is_read_only
        self._session: aiohttp.ClientSession | None = None
        self._counted = counted
        self._headers = {"Accept": JSON, "User-Agent": "meshbus"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        subject: str = "",
    ) -> Answer:
        """Sends until it is carried out; raises a `ClusterError` that names `subject`."""
        headers = {**self._headers, "Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        url = self._url(path, query)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RETRY_WITHIN.total_seconds()
        refused_for_good = loop.time() + _STARTING_WITHIN.total_seconds()
        delay = _FIRST_DELAY_S
        while True:
            try:
                answer = await self._once(method, path, url, headers, body, subject)
                self.has_answered = True
                return answer
            except ClusterForbidden:
                self.has_answered = True
                starting = await self.is_starting(refused_means=True)
                if not starting or loop.time() > refused_for_good:
                    raise
                pause = _STARTING_DELAY_S
            except (ClusterUnreachable, ClusterOverloaded, ClusterFailed) as error:
                self.last_failure = error
                pause = delay * random.uniform(0.5, 1.0)
                if isinstance(error, ClusterOverloaded):
                    pause = error.retry_after_s
                if loop.time() + pause > deadline:
                    raise
                refused_for_good = loop.time() + _STARTING_WITHIN.total_seconds()
                delay = min(delay * 2, _LONGEST_DELAY_S)
            await asyncio.sleep(pause)

    async def get(self, path: str, **options: Any) -> Any:
        """The decoded answer to a GET, an object."""
        return (await self.request("GET", path, **options)).decoded()

    async def is_starting(self, *, refused_means: bool = False) -> bool:
        """Whether the server is up but not ready.

        Until it is, it may refuse what the user may do (it has not read the roles yet) and leave
        kinds out of its discovery. `refused_means` is the answer for when it refuses to tell.
        """
        try:
            await self._exchange("GET", self._url("/readyz", None), self._headers, None, "readyz")
        except (ClusterUnreachable, ClusterOverloaded, ClusterFailed):
            return True
        except MeshbusError:
            return refused_means
        return False

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], read_timeout_s: float
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """An open GET whose body is read as it comes (watches), in pieces; one try."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=read_timeout_s
        )
        try:
            async with self._open("GET", self._url(path, query), timeout=timeout) as response:
                await self._refuse(response, "GET", path)
                async with aclosing(answers.pieces(response, ratio=self.bounds.ratio)) as found:
                    yield found
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None
        except answers.AnswerRefused as refused:
            raise refusal(refused, path) from None

    async def passed_on(self, path: str, *, query: Mapping[str, str], subject: str = "") -> Answer:
        """The answer to a GET of something in the cluster that the server passes it on to, whatever
        its status says; one try. Raises a `ClusterError` for what the server says itself."""
        subject = subject or path
        try:
            async with self._open("GET", self._url(path, query), headers=self._headers) as response:
                self._count("GET", str(response.status))
                code = response.status
                most = self.bounds.answer_bytes if code < 300 else _MOST_ERROR_BYTES
                body = await answers.read(response, most_bytes=most, ratio=self.bounds.ratio)
                if code >= 400 and is_status(body):
                    raise error_of(
                        method="GET",
                        code=code,
                        headers=response.headers,
                        body=body,
                        subject=subject,
                    )
                return Answer(code, body, subject)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count("GET", "none")
            raise self._unreachable(error) from None
        except answers.AnswerRefused as refused:
            raise refusal(refused, subject) from None

    @asynccontextmanager
    async def socket(
        self, path: str, *, query: Mapping[str, str], protocol: str, subject: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """An open WebSocket, which begins as a GET and needs the right to it; one try. What is sent
        on it is the caller's: `forwarding.py` reads."""
        try:
            socket = await self._opened().ws_connect(
                self._url(path, query),
                protocols=[protocol],
                # The server finds no JSON in what it passes on.
                headers={"Accept": "*/*"},
                max_msg_size=_BUFFER_BYTES,
                **self._tls_name(),
            )
            self._count("GET", "101")
            try:
                yield socket
            finally:
                # Who goes on sending instead of saying goodbye is not waited for.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                        await socket.close()
        except aiohttp.WSServerHandshakeError as error:
            self._count("GET", str(error.status))
            if error.status == 404:
                raise ObjectNotFound(f"{subject}: HTTP 404", subject=subject) from None
            # The handshake's answer is not read: the status is all that counts.
            headers: Mapping[str, str] = error.headers or {}
            raise error_of(
                method="GET", code=error.status, headers=headers, body=b"", subject=subject
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from None

    async def _once(
        self,
        method: str,
        path: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None,
        subject: str,
    ) -> Answer:
        if method not in _WRITES:
            return await self._exchange(method, url, headers, body, subject or path)
        kind = SpanKind.CLIENT
        attributes = {"http.request.method": method, "url.path": path, "k8s.object": subject}
        with traces.span(f"{method} {subject}", kind=kind, attributes=attributes) as span:
            answer = await self._exchange(method, url, headers, body, subject or path)
            span.set_attribute("http.response.status_code", answer.code)
            return answer

    async def _exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, subject: str
    ) -> Answer:
        try:
            async with self._open(method, url, headers=headers, data=body) as response:
                self._count(method, str(response.status))
                await self._refuse(response, method, subject)
                date = response.headers.get("Date", "")
                return Answer(response.status, await self._read(response), subject, date)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, "none")
            raise self._unreachable(error) from None
        except answers.AnswerRefused as refused:
            raise refusal(refused, subject) from None

    def _open(
        self, method: str, url: str, **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The request, sent to this very address: a server that redirects is not believed."""
        if self._is_read_only and method != "GET":
            raise InternalError(
                f"a {method} was refused: this client only reads",
                cause="a defect of the service that watches this cluster, or somebody else's code "
                "in its process",
            )
        return self._opened().request(
            method, url, allow_redirects=False, **options, **self._tls_name()
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = answers.session(
                self._policy,
                timeout=aiohttp.ClientTimeout(
                    total=_WHOLE_TIMEOUT_S,
                    sock_connect=_CONNECT_TIMEOUT_S,
                    sock_read=_READ_TIMEOUT_S,
                ),
                connections=self._connections,
                ssl=self._tls,
                read_bufsize=_BUFFER_BYTES,
                headers=self._headers,
            )
        return self._session

    async def _refuse(self, response: aiohttp.ClientResponse, method: str, subject: str) -> None:
        """Raises for an answer that carries nothing out; reads no more than an error's text."""
        code = response.status
        if code >= 400:
            content = await self._read(response, most_bytes=_MOST_ERROR_BYTES)
            raise error_of(
                method=method, code=code, headers=response.headers, body=content, subject=subject
            )
        if code >= 300:
            raise unusable(subject, f"sends elsewhere (HTTP {code})")
        if response.content_type == "text/html":
            raise unusable(subject, "is a page for people (text/html)")

    async def _read(self, response: aiohttp.ClientResponse, *, most_bytes: int = 0) -> bytes:
        most = most_bytes or self.bounds.answer_bytes
        return await answers.read(
            response, most_bytes=most, ratio=self.bounds.ratio, shared=_LONG_ANSWERS
        )

    def _url(self, path: str, query: Mapping[str, str] | None) -> str:
        return f"{self.config.server}{path}" + (f"?{urlencode(query)}" if query else "")

    def _tls_name(self) -> dict[str, Any]:
        name = self.config.tls_server_name
        return {"server_hostname": name} if name else {}

    def _count(self, method: str, code: str) -> None:
        if self._counted is not None:
            self._counted.count(metrics.KUBE_REQUESTS, method, code)

    def _unreachable(self, error: BaseException) -> MeshbusError:
        context = self.config.context
        if address := denied_address(error):
            return self._policy.denial(address, subject=f"cluster {context}")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return ClusterUnauthorized(
                f"cluster {context} shows a certificate that the kubeconfig's CA did not sign",
                cause="the kubeconfig's certificate-authority-data is of another cluster",
                remedy="export the kubeconfig again from the cluster itself",
            )
        return ClusterUnreachable(f"cluster {context} cannot be reached ({type(error).__name__})")
