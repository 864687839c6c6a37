"""What a translation depended on, and what lifecycle keeps so that it can follow.

A translation names the facts that it used (`Fact`). When it was applied, lifecycle keeps a record
of each source (`Followed`) in the bucket `following`. Topology holds the facts of the records
against what it watches; the translator translates the kept source again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pydantic import AwareDatetime, Field

from services.chassis.messages.facts import ServiceFact, WorkloadFact
from services.chassis.messages.grants import SignedGrant
from services.chassis.messages.models import Message, Piece

FOLLOW = "meshbus.io/follow"
"""Annotation of a source: `apply`, `report` or `ignore`, over the service's setting."""
TRANSLATED_FROM = "meshbus.io/translated-from"
"""Annotation of what was made: its source, such as `TrafficSplit.split.smi-spec.io shop/canary`."""
KIND = "follow"
"""Of the commands by which topology has a source translated again."""
MADE_KINDS = (
    "networking.istio.io/VirtualService",
    "security.istio.io/AuthorizationPolicy",
    "gateway.networking.k8s.io/HTTPRoute",
    "gateway.networking.k8s.io/TCPRoute",
)
"""Kinds that SMI objects become."""
SERVICE, ACCOUNT, VERSIONS, MESH = "Service", "ServiceAccount", "versions", "mesh"
_ID = re.compile(r"(?P<operation>.+)-follow-(?P<revision>\d+)-[a-z0-9]+\Z")
_LONGEST_ID = 128


class FollowMode(StrEnum):
    """What happens when something changes that a source's translation depended on."""

    APPLY = "apply"
    REPORT = "report"
    IGNORE = "ignore"


class Fact(Piece):
    """One thing that a translation asked for, and a digest of the answer."""

    kind: str
    """`Service`, `ServiceAccount` (the workloads that run under it), `versions` (those that the
    cluster serves of the kind `name`), or `mesh` (its root namespace and trust domain)."""
    namespace: str = ""
    name: str = ""
    digest: str = ""
    """"" when it was not there."""

    @property
    def place(self) -> tuple[str, str, str]:
        return (self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        match self.kind:
            case "versions":
                return f"served versions of {self.name}"
            case "mesh":
                return "root namespace and trust domain of the mesh"
            case "ServiceAccount":
                return f"workloads of ServiceAccount {self.namespace}/{self.name}"
        return f"{self.kind} {self.namespace}/{self.name}"


class Follow(Piece):
    """One source of a plan, and what its translation used."""

    source: str
    """As `TRANSLATED_FROM` has it."""
    mode: str = ""
    """`FollowMode`; "" leaves it to the service's setting."""
    facts: list[Fact] = Field(default_factory=list)


class Followed(Message):
    """A source that was applied: the value of `following/<cluster>.<hash of the source>`."""

    source: str
    mode: FollowMode
    facts: list[Fact]
    objects: list[str]
    """What the source became, as `named` writes it."""
    cluster: str
    cluster_name: str = ""
    namespace: str = "default"
    username: str = ""
    operation: str
    """The operation that sent the source."""
    grant: SignedGrant
    """The gateway's, for that operation. Its record here lets it stand beyond its deadline, for
    nothing but the translation of this source."""
    command: str
    """Base64 of the command with its body, sealed to the translator."""
    encoding: str = ""
    """Its `Content-Encoding`."""
    since: AwareDatetime
    renewed_by: str = ""
    """The following that wrote it last: a repeat of it is no other one's."""


class FollowRequest(Message):
    """The body of a command of topology's: translate this source again."""

    source: str = Field(max_length=512)
    revision: int
    """Of its record."""
    attempt: int = 1
    attempts: int = 1
    """After so many topology gives up."""


def following_key(cluster: str, source: str) -> str:
    """Key of a source's record in the bucket `following`."""
    return f"{cluster}.{_digest(source)}"


def following_id(operation: str, *, revision: int, attempt: str) -> str:
    """Id of an operation that translates a source again; `attempt` is of `[a-z0-9]`."""
    end = f"-follow-{revision}-{attempt}"
    return f"{operation[: _LONGEST_ID - len(end)]}{end}"


def followed_operation(operation: str) -> str:
    """The operation whose source another one follows; "" when it follows none."""
    found = _ID.match(operation)
    return found["operation"] if found else ""


def followed_revision(operation: str) -> int:
    """The revision of the record that an operation follows; 0 when it follows none."""
    found = _ID.match(operation)
    return int(found["revision"]) if found else 0


def named(*, group: str, kind: str, namespace: str, name: str) -> str:
    """An object in `Followed.objects`: it has no version."""
    return f"{group}/{kind} {namespace}/{name}"


# --- facts ---------------------------------------------------------------------------------------


def service_fact(namespace: str, name: str, service: ServiceFact | None) -> Fact:
    """Whether a Service is there, and its ports."""
    if service is None:
        return Fact(kind=SERVICE, namespace=namespace, name=name)
    ports = sorted((p.port, p.name, p.protocol, p.app_protocol) for p in service.ports)
    return Fact(kind=SERVICE, namespace=namespace, name=name, digest=_digest(ports))


def account_fact(namespace: str, name: str, workloads: Iterable[WorkloadFact]) -> Fact:
    """The labels that select the workloads of an account, and the accounts that they select too.

    `workloads` are those of the namespace, or at least the account's and those that its selectors
    reach. A new pod with the labels of the old one changes nothing.
    """
    found = list(workloads)
    ours = [one.selecting for one in found if (one.service_account or "default") == name]
    if not ours:
        return Fact(kind=ACCOUNT, namespace=namespace, name=name)
    others = {
        (one.service_account or "default", json.dumps(selector, sort_keys=True))
        for one in found
        for selector in ours
        if (one.service_account or "default") != name and selector.items() <= one.labels.items()
    }
    selectors = sorted({json.dumps(selector, sort_keys=True) for selector in ours})
    digest = _digest([selectors, sorted(others)])
    return Fact(kind=ACCOUNT, namespace=namespace, name=name, digest=digest)


def versions_fact(kind: str, served: Mapping[str, Sequence[str]]) -> Fact:
    """The versions in which a cluster serves a kind (`group/Kind`)."""
    versions = sorted(served.get(kind, ()))
    return Fact(kind=VERSIONS, name=kind, digest=_digest(versions) if versions else "")


def mesh_fact(*, root_namespace: str, trust_domain: str) -> Fact:
    return Fact(kind=MESH, digest=_digest([root_namespace, trust_domain]))


def changed(before: Iterable[Fact], now: Iterable[Fact]) -> list[str]:
    """What happened to facts, in words: `Service shop/web-a appeared`."""
    known = {fact.place: fact.digest for fact in before}
    words = []
    for fact in now:
        was = known.get(fact.place, fact.digest)
        if was != fact.digest:
            words.append(
                f"{fact} {'appeared' if not was else 'changed' if fact.digest else 'went'}"
            )
    return words


def _digest(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return hashlib.sha256(text.encode()).hexdigest()[:26]
