"""A raw asynchronous client on the transport of `kubernetes.aio`.

The typed layer of the kubernetes package decodes ten times slower than orjson, so requests and
answers are bytes here. The transport (`RESTClientObject` over aiohttp) stays theirs, but the TLS
context is ours: their configuration wants certificate files, and keys must not touch a disk.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from opentelemetry.trace import SpanKind

from services.chassis.errors import (
    ClusterFailed,
    ClusterForbidden,
    ClusterOverloaded,
    ClusterUnauthorized,
    ClusterUnreachable,
    KindUnknown,
    KubeconfigMalformed,
    MeshbusError,
    NamespaceMissing,
    ObjectConflict,
    ObjectInvalid,
    ObjectNotFound,
    WatchExpired,
    shortened,
)
from services.chassis.kube.kubeconfigs import Kubeconfig
from services.chassis.telemetry import metrics, traces
from services.chassis.telemetry.redaction import redacted_text

CONNECTIONS = 16
_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 30.0
_RETRY_WITHIN = timedelta(seconds=45)
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 3.0
# How long a refusal is not believed of a server that is not ready.
_STARTING_WITHIN = timedelta(seconds=10)
_STARTING_DELAY_S = 0.2
_WRITES = frozenset({"PATCH", "POST", "PUT", "DELETE"})

# What the API server says to a path of a group or version that it does not serve.
_NO_SUCH_PATH = "404 page not found"
_TERMINATING = "because it is being terminated"
# What server-side apply says, with a 500, to a field that the kind does not have.
_NOT_OF_ITS_SCHEMA = "failed to create typed patch object"
# A kind that was just defined answers so until its cache is filled, usually within 100 ms; the
# server asks for a second.
_FILLING = "storage is (re)initializing"
_FILLING_DELAY_S = 0.1

# An API server that is going down reports its own failed calls (to allocate an address, say) as if
# the object were invalid.
_OWN_CALL_FAILED = "connect: connection refused"

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"


class _Transport(RESTClientObject):
    """Their connection pool with our TLS context and without the process's proxy variables."""

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        configuration = Configuration()
        configuration.connection_pool_maxsize = connections
        configuration.client_session_kwargs = {
            "trust_env": False,
            "timeout": aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_READ_TIMEOUT_S
            ),
        }
        super().__init__(configuration)
        self.ssl_context = context

    def session(self) -> aiohttp.ClientSession:
        if self.pool_manager is None:
            self.pool_manager = self._create_pool_manager()
        return self.pool_manager


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

    def json(self) -> Any:
        return orjson.loads(self.body)


class KubeClient:
    """Requests to one API server, retried while that is safe: every call here is idempotent."""

    def __init__(
        self,
        config: Kubeconfig,
        *,
        counted: metrics.Metrics | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        """`connections` at a time; a watch holds one for as long as it lasts."""
        self.config = config
        self.serves_watch_list = True
        """Until the server refuses to stream a collection's objects (`watching.py`)."""
        self._transport = _Transport(tls_context(config), connections)
        self._counted = counted
        self._headers = {"Accept": JSON, "User-Agent": "meshbus"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"

    async def close(self) -> None:
        await self._transport.close()

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
                return await self._once(method, path, url, headers, body, subject)
            except ClusterForbidden:
                starting = await self.is_starting(refused_means=True)
                if not starting or loop.time() > refused_for_good:
                    raise
                pause = _STARTING_DELAY_S
            except (ClusterUnreachable, ClusterOverloaded, ClusterFailed) as error:
                pause = delay * random.uniform(0.5, 1.0)
                if isinstance(error, ClusterOverloaded):
                    pause = error.retry_after_s
                if loop.time() + pause > deadline:
                    raise
                refused_for_good = loop.time() + _STARTING_WITHIN.total_seconds()
                delay = min(delay * 2, _LONGEST_DELAY_S)
            await asyncio.sleep(pause)

    async def get(self, path: str, **options: Any) -> Any:
        """The decoded answer to a GET."""
        return (await self.request("GET", path, **options)).json()

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
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """An open GET whose body is read as it comes (watches); one try."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=read_timeout_s
        )
        try:
            async with self._transport.session().get(
                self._url(path, query),
                headers=self._headers,
                timeout=timeout,
                **self._tls_name(),
            ) as response:
                if response.status >= 400:
                    raise self._error(
                        "GET", response.status, response.headers, await response.read(), path
                    )
                yield response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
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
            async with self._transport.session().request(
                method, url, headers=headers, data=body, **self._tls_name()
            ) as response:
                content = await response.read()
                code, answered = response.status, response.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, "none")
            raise self._unreachable(error) from None
        self._count(method, str(code))
        if code >= 400:
            raise self._error(method, code, answered, content, subject)
        return Answer(code, content)

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
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return ClusterUnauthorized(
                f"cluster {context} shows a certificate that the kubeconfig's CA did not sign",
                cause="the kubeconfig's certificate-authority-data is of another cluster",
                remedy="export the kubeconfig again from the cluster itself",
            )
        return ClusterUnreachable(f"cluster {context} cannot be reached ({type(error).__name__})")

    def _error(
        self, method: str, code: int, headers: Mapping[str, str], body: bytes, subject: str
    ) -> MeshbusError:
        return error_of(method=method, code=code, headers=headers, body=body, subject=subject)


def error_of(
    *, method: str, code: int, headers: Mapping[str, str], body: bytes, subject: str
) -> MeshbusError:
    """Our error for an answer of 400 and above (metav1.Status or anything else)."""
    text = _status_message(body)
    what = f"{subject}: {text}" if text else f"{subject}: HTTP {code}"
    match code:
        case 401:
            return ClusterUnauthorized("the cluster does not accept the credential")
        case 403 if _TERMINATING in text:
            return NamespaceMissing(
                what,
                subject=subject,
                cause="the namespace is being deleted",
                remedy="wait until it is gone, then repeat the operation",
            )
        case 403:
            return ClusterForbidden(what, subject=subject)
        case 404 if not text or text == _NO_SUCH_PATH:
            return KindUnknown(f"{subject}: the cluster does not serve this kind", subject=subject)
        case 404 if "namespaces" in text and method != "GET":
            return NamespaceMissing(what, subject=subject)
        case 404:
            return ObjectNotFound(what, subject=subject)
        case 409:
            return ObjectConflict(what, subject=subject)
        case 410:
            return WatchExpired(what, subject=subject)
        case 422 if _OWN_CALL_FAILED in text:
            return ClusterFailed(what, subject=subject)
        case 400 | 405 | 406 | 413 | 415 | 422:
            return ObjectInvalid(what, subject=subject)
        case 429:
            overloaded = ClusterOverloaded(what, subject=subject)
            pause = _FILLING_DELAY_S if _FILLING in text else _retry_after(headers)
            overloaded.retry_after_s = pause
            return overloaded
        case _ if "admission webhook" in text and "denied" in text:
            return ObjectInvalid(what, subject=subject)
        case _ if _NOT_OF_ITS_SCHEMA in text:
            return ObjectInvalid(what, subject=subject)
        case _:
            return ClusterFailed(what, subject=subject)


def _status_message(body: bytes) -> str:
    try:
        status = orjson.loads(body)
        text = str(status.get("message", "")) if isinstance(status, dict) else ""
    except orjson.JSONDecodeError:
        text = body[:512].decode("utf-8", "replace")
    return shortened(redacted_text(text))


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(max(float(headers.get("Retry-After", "1")), 0.1), 10.0)
    except ValueError:
        return 1.0
