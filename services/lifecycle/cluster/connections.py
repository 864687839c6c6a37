"""Clusters as a command's credential reaches them, kept warm between operations.

A TLS handshake and a discovery cost more than applying a small manifest, so a connection stays for
a while after its last use. It is keyed by a hash of the kubeconfig: another credential, another
connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from services.chassis.addresses import AddressPolicy
from services.chassis.bus import subjects
from services.chassis.bus.credentials import Opener
from services.chassis.errors import InvalidMessage, KindUnknown, NamespaceMissing, ObjectNotFound
from services.chassis.http.answers import Bounds
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.kube.resources import Resources
from services.chassis.kube.watching import listed
from services.chassis.messages import MeshFact
from services.chassis.telemetry import redaction
from services.chassis.telemetry.metrics import Metrics
from services.lifecycle.cluster import istio

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
    _uid: str = ""

    async def identity(self) -> str:
        """The UID of kube-system: the same for all addresses of a cluster."""
        if not self._uid:
            namespace = await self.client.get(
                "/api/v1/namespaces/kube-system", subject="Namespace kube-system"
            )
            self._uid = str(namespace["metadata"]["uid"])
        return self._uid

    async def get(self, ref: Ref) -> KubeObject | None:
        """The object, or None when it or its whole kind is not there."""
        try:
            resource = await self.resources.find(ref.api_version, ref.kind)
            found: KubeObject = await self.client.get(resource.path(ref), subject=str(ref))
        except (ObjectNotFound, NamespaceMissing, KindUnknown):
            return None
        return found

    async def select(
        self, kinds: Iterable[tuple[str, str]], *, selector: str = "", namespace: str = ""
    ) -> list[Found]:
        """Metadata of all objects of `kinds` that match; kinds the cluster lacks are left out."""
        lists = await asyncio.gather(
            *(self._select(group, kind, selector, namespace) for group, kind in kinds)
        )
        return [found for found_list in lists for found in found_list]

    async def _select(self, group: str, kind: str, selector: str, namespace: str) -> list[Found]:
        resource = await self.resources.preferred(group, kind)
        if resource is None or "list" not in resource.verbs:
            return []
        query = {"labelSelector": selector} if selector else {}
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


@dataclass(slots=True)
class _Entry:
    """A connection, how many use it, and when it expires."""

    connection: Connection
    users: int = 0
    expiry: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Connections:
    """All connections of one worker."""

    opener: Opener
    metrics: Metrics
    idle: timedelta
    allow_insecure: bool
    policy: AddressPolicy = field(default_factory=AddressPolicy)
    """Where kubeconfigs may lead."""
    bounds: Bounds = field(default_factory=Bounds)
    """How much of a cluster's answer is read."""
    _open: dict[str, _Entry] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def to(
        self, cluster: str, *, operation: str, credential: str
    ) -> AsyncIterator[Connection]:
        """The connection for an operation on `cluster`; its secrets are masked while it is open.

        Without a `credential` it is that of the registered cluster.
        """
        kubeconfig = await self.opener.get(_key(cluster, operation, credential))
        key = hashlib.sha256(kubeconfig.encode()).hexdigest()
        entry = self._open.get(key)
        if entry is None:
            entry = self._open[key] = _Entry(self._connect(kubeconfig))
        if entry.expiry is not None:
            entry.expiry.cancel()
        entry.users += 1
        try:
            yield entry.connection
        finally:
            entry.users -= 1
            if entry.users == 0:
                loop = asyncio.get_running_loop()
                entry.expiry = loop.call_later(self.idle.total_seconds(), self._expire, key)

    async def close(self) -> None:
        for key in list(self._open):
            self._expire(key)
        await asyncio.gather(*self._closing)

    def _connect(self, kubeconfig: str) -> Connection:
        config = parse_kubeconfig(kubeconfig, allow_insecure=self.allow_insecure)
        redaction.register(config.secrets)
        client = KubeClient(config, counted=self.metrics, policy=self.policy, bounds=self.bounds)
        return Connection(client, Resources(client))

    def _expire(self, key: str) -> None:
        connection = self._open.pop(key).connection
        redaction.forget(connection.client.config.secrets)
        task = asyncio.create_task(connection.client.close(), name="close-connection")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _key(cluster: str, operation: str, credential: str) -> str:
    """The credential's key: of the operation or of its registered cluster, never another one's."""
    registered = subjects.registered_credential(cluster)
    key = credential or registered
    if key not in (registered, subjects.operation_credential(operation, cluster)):
        raise InvalidMessage("the command names a credential of something else")
    return key
