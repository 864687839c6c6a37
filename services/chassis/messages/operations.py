"""The records in the buckets `ops`, `catalog` and `clusters`."""

from __future__ import annotations

from datetime import datetime, timezone
from enum import IntEnum, StrEnum

from pydantic import Field

from services.chassis.messages.events import ErrorReport, Event
from services.chassis.messages.models import Message


def _now() -> datetime:
    return datetime.now(timezone.utc)


class OperationState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self is not OperationState.RUNNING


class OperationRecord(Message):
    """State of one operation on one cluster: the value of `ops/<operation>.<cluster>`."""

    operation: str
    kind: str
    cluster: str
    cluster_name: str = ""
    state: OperationState
    attempt: int = 1
    worker: str = ""
    summary: str = ""
    error: ErrorReport | None = None
    final: Event | None = None
    """The event that ended the operation, kept so that a repeat can tell it again."""
    cancel_requested: bool = False
    updated: datetime = Field(default_factory=_now)


class RequestRecord(Message):
    """The request behind an operation id: the value of `ops/<operation>`."""

    operation: str
    fingerprint: str
    """Keyed hash of the request, so that one id is never used for two different ones."""
    kind: str
    clusters: list[str]
    cluster_names: dict[str, str] = Field(default_factory=dict)
    """What people call the clusters, by their tokens."""
    service: str = ""
    """The service that the operation's commands went to."""
    regions: dict[str, str] = Field(default_factory=dict)
    """By cluster, where workers of a region carry it out: which one. It stays that one, whatever
    becomes of the cluster's."""
    identity: str = ""
    """Who asked, as he proved it; "" in records from before that was kept."""
    verb: str = ""
    """`apply` or `delete`; "" in records from before this and the next three were kept. With them
    a request can be repeated, but for its body, which may hold secrets and is not kept."""
    namespace: str = ""
    version: str = ""
    has_body: bool = False
    accepted: datetime = Field(default_factory=_now)
    deadline: datetime | None = None
    """Whatever no worker has begun by then is failed by the gateway."""
    may_take_s: float = 0.0
    """How long the operation may go on after its deadline, with its command still in the queue."""


class Category(IntEnum):
    """`OpCategory` of the wire contract; Meshery draws one card for each. One of a later version
    reads as CUSTOM: an unknown one would hide all operations of its worker."""

    INSTALL = 0
    SAMPLE_APPLICATION = 1
    CONFIGURE = 2
    VALIDATE = 3
    CUSTOM = 4

    @classmethod
    def _missing_(cls, value: object) -> Category | None:
        return cls.CUSTOM if isinstance(value, int) else None


class SlotKind(StrEnum):
    """`mesh`: one at a time for each cluster. `apply`: side by side."""

    MESH = "mesh"
    APPLY = "apply"


class AdvertisedOperation(Message):
    """One operation that a worker offers."""

    name: str
    description: str
    category: Category
    slot: SlotKind
    may_take_s: float = 0.0
    """How long one may go on after its deadline has passed."""
    stays_in_namespace: bool = False
    """Whether it changes nothing outside the request's namespace, unless its body says otherwise.
    Only then a rule for that namespace alone allows it."""
    judges_objects: bool = False
    """Whether all that it changes are objects of a plan or a manifest, which lifecycle holds each
    against the namespaces of the grant. Then a rule for some namespaces allows it, body or not."""
    is_listed: bool = True
    """False for what only the gateway itself asks for; people do not see it."""


class ServiceCatalog(Message):
    """The value of `catalog/<service>`."""

    service: str
    operations: list[AdvertisedOperation]
    versions: list[str] = Field(default_factory=list)
    """Mesh versions that the service can install, newest first."""


class ClusterRecord(Message):
    """A registered cluster: the value of `clusters/<cluster>`. It holds no credential.

    Lifecycle writes it, after the cluster has accepted the credential.
    """

    cluster: str
    name: str
    """What people call it: the kubeconfig's context."""
    server: str
    credential: str = ""
    """SHA-256 of the kubeconfig: tells whether another one was registered since."""
    identity: str = ""
    """Who asked for the operation that registered it."""
    sealed_to: str = ""
    """Fingerprint of the keys to which its credentials are sealed."""
    labels: dict[str, str] = Field(default_factory=dict)
    """What its kubeconfig says that the cluster is like; questions about the fleet choose by it."""
    has_reader: bool = False
    """A person gave a kubeconfig to watch it by: the one that may write is not for topology."""
    registered: datetime = Field(default_factory=_now)
