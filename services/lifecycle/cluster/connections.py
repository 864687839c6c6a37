"""Clusters as a command's credential reaches them, kept warm between operations.

A TLS handshake and a discovery cost more than applying a small manifest, so a connection stays for
a while after its last use. It is keyed by a hash of the kubeconfig: another credential, another
connection.

Before anything else each connection makes its first contact. A cluster that was never reached gets
little time for it: an address that somebody made up must not keep a worker waiting. One that has
answered before, and is registered, may be restarting.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import structlog

from services.chassis.addresses import AddressPolicy
from services.chassis.bus import subjects
from services.chassis.bus.credentials import Opener
from services.chassis.errors import (
    ClusterError,
    ClusterFailed,
    ClusterUnauthorized,
    ClusterUnreachable,
    CredentialMissing,
    InvalidMessage,
    KindUnknown,
    MeshbusError,
    NamespaceMissing,
    ObjectNotFound,
    OptionsMalformed,
    QuotaExceeded,
)
from services.chassis.http.answers import Bounds
from services.chassis.kube.applying import FIELD_MANAGER
from services.chassis.kube.client import MERGE_PATCH, KubeClient
from services.chassis.kube.kubeconfigs import Kubeconfig, parse_kubeconfig
from services.chassis.kube.labelling import own_labels
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.kube.resources import Resources
from services.chassis.kube.watching import listed
from services.chassis.messages import MeshFact
from services.chassis.telemetry import redaction
from services.chassis.telemetry.metrics import Metrics
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.registrations import Registrations

log = structlog.get_logger(__name__)

_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ANONYMOUS = "system:anonymous"
# A cluster that is registered with the same credential may be restarting; the client itself gives
# up a little sooner.
_LATER_CONTACT = timedelta(seconds=50)
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Found:
    """An object's metadata as the cluster has it."""

    ref: Ref
    obj: KubeObject

    @property
    def labels(self) -> dict[str, str]:
        return labels_of(self.obj)

    @property
    def revision(self) -> str | None:
        return istio.revision_of(self.obj)

    @property
    def version(self) -> str:
        return self.labels.get(istio.VERSION, "")


@dataclass(slots=True)
class Connection:
    """One cluster through one credential."""

    client: KubeClient
    resources: Resources
    served: dict[str, list[str]] = field(default_factory=dict)
    """Versions by kind, as in `ClusterFacts`, when the cluster was last surveyed."""
    meshes: list[MeshFact] = field(default_factory=list)
    """The installed revisions at that time."""
    surveyed: float = float("-inf")
    """When that was, in the loop's time."""
    is_reached: bool = False
    is_proven: bool = False
    """Whether the cluster has accepted the credential, as somebody's and not as anybody's."""
    _uid: str = ""

    async def reach(self, within: timedelta) -> None:
        """Makes the first contact, by a request that no made-up credential gets past.

        Raises the cluster's error: at once where it refuses the credential, and after `within`
        where nothing has answered.
        """
        try:
            async with asyncio.timeout(within.total_seconds()):
                self.is_proven = await self._is_accepted()
        except TimeoutError:
            # One that answers, and only takes its time, is reached.
            if not self.client.has_answered:
                seconds = within.total_seconds()
                raise self.client.last_failure or ClusterUnreachable(
                    f"cluster {self.client.config.context} did not answer within {seconds:g} s"
                ) from None
        self.is_reached = True

    async def _is_accepted(self) -> bool:
        try:
            await self.identity()
        except ClusterUnauthorized:
            raise
        except ClusterError as error:
            if error.retryable:
                raise
            # It may not read the namespace, which says nothing about who it is.
            return await self._has_name()
        return True

    async def _has_name(self) -> bool:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = await self.client.request("POST", _REVIEW, body=orjson.dumps(review))
            user = answer.json()["status"]["userInfo"]["username"]
        except ClusterUnauthorized:
            raise
        except (ClusterError, KeyError, TypeError, ValueError):
            return False  # no API server of today
        return bool(user) and user != _ANONYMOUS

    async def identity(self) -> str:
        """The UID of kube-system: the same for all addresses of a cluster."""
        if not self._uid:
            namespace = await self.client.get(
                "/api/v1/namespaces/kube-system", subject="Namespace kube-system"
            )
            try:
                self._uid = str(namespace["metadata"]["uid"])
            except (KeyError, TypeError):
                raise ClusterFailed("the answer about Namespace kube-system is none") from None
        return self._uid

    async def get(self, ref: Ref) -> KubeObject | None:
        """The object, or None when it or its whole kind is not there."""
        try:
            resource = await self.resources.find(ref.api_version, ref.kind)
            found: KubeObject = await self.client.get(resource.path(ref), subject=str(ref))
        except (ObjectNotFound, NamespaceMissing, KindUnknown):
            return None
        return found

    async def merge(self, ref: Ref, patch: Mapping[str, Any]) -> KubeObject:
        """Changes what a merge patch names (RFC 7386), and leaves all else; returns the object."""
        resource = await self.resources.find(ref.api_version, ref.kind)
        answer = await self.client.request(
            "PATCH",
            resource.path(ref),
            query={"fieldManager": FIELD_MANAGER},
            body=orjson.dumps(patch),
            content_type=MERGE_PATCH,
            subject=str(ref),
        )
        patched: KubeObject = answer.json()
        return patched

    async def objects(self, group: str, kind: str, namespace: str = "") -> dict[Ref, KubeObject]:
        """All objects of a kind, whole; none where the cluster lacks the kind or the namespace."""
        resource = await self.resources.preferred(group, kind)
        if resource is None:
            return {}
        try:
            found = await listed(self.client, resource.collection(namespace))
        except (ObjectNotFound, KindUnknown):
            return {}
        for one in found.items:
            one["apiVersion"], one["kind"] = resource.api_version, kind
        return {Ref.of(one): one for one in found.items}

    async def select(
        self,
        kinds: Iterable[tuple[str, str]],
        *,
        selector: str = "",
        namespace: str = "",
        fields: str = "",
    ) -> list[Found]:
        """Metadata of all objects of `kinds` that match; kinds the cluster lacks are left out."""
        named = {"labelSelector": selector, "fieldSelector": fields}
        query = {name: value for name, value in named.items() if value}
        lists = await asyncio.gather(
            *(self._select(group, kind, query, namespace) for group, kind in kinds)
        )
        return [found for found_list in lists for found in found_list]

    async def _select(
        self, group: str, kind: str, query: dict[str, str], namespace: str
    ) -> list[Found]:
        resource = await self.resources.preferred(group, kind)
        if resource is None or "list" not in resource.verbs:
            return []
        try:
            listing = await listed(
                self.client, resource.collection(namespace), query=query, accept=_METADATA_LIST
            )
        except (ObjectNotFound, KindUnknown):
            return []
        found = []
        for item in listing.items:
            item["apiVersion"], item["kind"] = resource.api_version, kind
            found.append(Found(Ref.of(item), item))
        return found


Warn = Callable[[str, str], None]
"""Tells whoever asked for the operation: what, and why."""


@dataclass(slots=True)
class _Entry:
    """A connection, how many use it, and when it expires."""

    connection: Connection
    text: str = field(repr=False)
    digest: str
    users: int = 0
    expiry: asyncio.TimerHandle | None = None
    reaching: asyncio.Task[None] | None = None
    """The first contact, for all who wait for it."""


@dataclass(slots=True, kw_only=True)
class Connections:
    """All connections of one worker."""

    opener: Opener
    registrations: Registrations
    metrics: Metrics
    idle: timedelta
    first_contact: timedelta
    """How long a cluster that was never reached may take to answer."""
    allow_insecure: bool
    policy: AddressPolicy = field(default_factory=AddressPolicy)
    """Where kubeconfigs may lead."""
    bounds: Bounds = field(default_factory=Bounds)
    """How much of a cluster's answer is read."""
    _open: dict[str, _Entry] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def to(
        self, cluster: str, *, operation: str, credential: str
    ) -> AsyncIterator[Connection]:
        """The connection for an operation on `cluster`; its secrets are masked while it is open.

        Without a `credential` it is that of the registered cluster. It may never have been used:
        `reached` comes before any work. Raises `CredentialMissing` for one that is missing, or is
        another cluster's: the bucket has no say in where a command goes.
        """
        kubeconfig = await self.opener.get(_key(cluster, operation, credential))
        digest = hashlib.sha256(kubeconfig.encode()).hexdigest()
        entry = self._open.get(digest)
        if entry is None:
            connection = self._connect(kubeconfig, cluster)
            entry = self._open[digest] = _Entry(connection, kubeconfig, digest)
        _refuse_another(entry.connection.client.config, cluster)
        if entry.expiry is not None:
            entry.expiry.cancel()
        entry.users += 1
        try:
            yield entry.connection
        finally:
            entry.users -= 1
            if entry.users == 0 and not entry.connection.is_reached:
                # Nothing of it is worth keeping, and a flood would be kept for minutes.
                self._expire(digest)
            elif entry.users == 0:
                loop = asyncio.get_running_loop()
                entry.expiry = loop.call_later(self.idle.total_seconds(), self._expire, digest)

    async def reached(
        self, connection: Connection, *, identity: str, warn: Warn = lambda _what, _why: None
    ) -> None:
        """Waits for the first contact, and registers a cluster whose credential has passed it.

        Everybody who waits for the same cluster shares one contact, and its failure. `warn` is told
        when a cluster cannot be registered for the identity.
        """
        entry = next(e for e in self._open.values() if e.connection is connection)
        is_first = not connection.is_reached
        if is_first:
            if entry.reaching is None:
                entry.reaching = self._hold("first-contact", self._reach(entry))
            await asyncio.shield(entry.reaching)
        if connection.is_proven:
            registering = self._hold("register-cluster", self._register(entry, identity, warn))
            if is_first:
                await asyncio.shield(registering)

    async def close(self) -> None:
        for key in list(self._open):
            self._expire(key)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reach(self, entry: _Entry) -> None:
        config = entry.connection.client.config
        try:
            is_known = await self.registrations.is_with(config.cluster, entry.digest)
            await entry.connection.reach(_LATER_CONTACT if is_known else self.first_contact)
        finally:
            entry.reaching = None

    async def _register(self, entry: _Entry, identity: str, warn: Warn) -> None:
        """The operation needs none of it, and does not fail with it."""
        config = entry.connection.client.config
        labels: dict[str, str] = {}
        try:
            labels = own_labels(config.extensions)
        except OptionsMalformed as error:
            warn(error.summary, f"It is registered without labels: {error.remedy}.")
        try:
            await self.registrations.keep(
                config, text=entry.text, digest=entry.digest, identity=identity, labels=labels
            )
        except QuotaExceeded as error:
            log.warning("cluster_not_registered", cluster=config.cluster, reason=error.summary)
            warn(f"Not registered: {error.summary}", f"{error.cause}. {error.remedy}")
        except MeshbusError as error:
            log.warning("cluster_not_registered", cluster=config.cluster, reason=error.summary)

    def _hold(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waits for it raises it; nobody may be left.
            task.exception()

    def _connect(self, kubeconfig: str, cluster: str) -> Connection:
        config = parse_kubeconfig(kubeconfig, allow_insecure=self.allow_insecure)
        _refuse_another(config, cluster)
        redaction.register(config.secrets)
        client = KubeClient(config, counted=self.metrics, policy=self.policy, bounds=self.bounds)
        return Connection(client, Resources(client))

    def _expire(self, key: str) -> None:
        entry = self._open.pop(key)
        if entry.reaching is not None:
            entry.reaching.cancel()
        connection = entry.connection
        redaction.forget(connection.client.config.secrets)
        self._hold("close-connection", connection.client.close())


def _key(cluster: str, operation: str, credential: str) -> str:
    """The credential's key: of the operation or of its registered cluster, never another one's."""
    registered = subjects.registered_credential(cluster)
    key = credential or registered
    if key not in (registered, subjects.operation_credential(operation, cluster)):
        raise InvalidMessage("the command names a credential of something else")
    return key


def _refuse_another(config: Kubeconfig, cluster: str) -> None:
    if config.cluster != cluster:
        raise CredentialMissing(
            f"the credential is not of cluster {cluster[:64]}",
            cause="it reaches another API server, or one with another certificate authority",
            remedy="register the cluster again, or send its kubeconfig with the operation",
        )
