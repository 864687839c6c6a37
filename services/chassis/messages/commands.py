"""Commands: what the gateway (or a person with the nats CLI) asks a worker to do, and the plan that
the translator makes of one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from services.chassis.messages.following import Follow
from services.chassis.messages.grants import SignedGrant
from services.chassis.messages.models import Message, Piece

# How long a command may wait and run when its sender does not say.
DEFAULT_TIME_TO_RUN = timedelta(minutes=30)


class Verb(StrEnum):
    """`apply` brings something into the cluster or changes it, `delete` takes it away."""

    APPLY = "apply"
    DELETE = "delete"


class StepKind(StrEnum):
    """`manifest` writes objects; the others are lifecycle's operations of the same name."""

    MANIFEST = "manifest"
    MESH = "istio"
    INJECTION = "label-namespace"
    APPLICATION = "application"


class Step(Piece):
    """One step. Steps are carried out in the order in which they stand."""

    title: str
    """What it is about, such as `VirtualService default/reviews`."""
    kind: StepKind = StepKind.MANIFEST
    level: int = 0
    """Manifests that follow each other with the same level, other than 0, are written together."""
    is_deletion: bool = False
    objects: list[dict[str, Any]] = Field(default_factory=list)
    """Of a manifest, with their namespaces; of a deletion only their identities count."""
    obsolete: list[dict[str, Any]] = Field(default_factory=list)
    """Identities of objects that the step replaces: deleted after it, if Meshbus made them."""
    name: str = ""
    """Of an application: the operation that lifecycle offers for it."""
    namespace: str = ""
    """Of an injection or an application."""
    version: str = ""
    """Of a mesh."""
    body: str = ""
    """Of a mesh or an injection: what the operation takes as its body."""


class Plan(Message):
    """A translated operation."""

    steps: list[Step]
    summary: str
    """Summary of the final event when all is done."""
    details: str = ""
    """Its details; the steps' lines follow."""
    failing: str = "running the operation"
    """Completes `Error while …` when a step fails."""
    reports_lines: bool = False
    """Whether the final details have a line for each step, as designs do."""
    follow: list[Follow] = Field(default_factory=list)
    """Sources whose translation depends on the cluster, to be kept once the plan is carried out."""
    ends: list[str] = Field(default_factory=list)
    """Sources that are not followed any more then."""


def _default_deadline() -> datetime:
    return datetime.now(timezone.utc) + DEFAULT_TIME_TO_RUN


class Command(Message):
    """One operation for one cluster.

    A person may send it as JSON with `nats pub`; only `operation` and `kind` are required then.
    """

    operation: str = Field(min_length=1, max_length=128)
    """Id of the operation, the caller's own."""
    kind: str = Field(min_length=1, max_length=64)
    """Name of the operation, as the worker advertises it."""
    verb: Verb = Verb.APPLY
    cluster: str = ""
    """Cluster token; the subject has it as well and wins."""
    cluster_name: str = ""
    """What people call the cluster (the kubeconfig's context)."""
    namespace: str = "default"
    username: str = ""
    version: str = ""
    body: str = ""
    """The request's `custom_body`: YAML."""
    plan: Plan | None = None
    """What the translator made of the request; lifecycle then carries it out, whatever the kind."""
    region: str = ""
    """The region whose lifecycle workers write to the cluster; "" for those of none. What a service
    hands on is for them."""
    credential: str = ""
    """Key in the bucket `credentials`; empty means the registered cluster's own."""
    grant: SignedGrant | None = None
    """The gateway's signature under what was asked for. A person's command has none."""
    asked: str = ""
    """The body that the grant is about, where something else was made of it since."""
    deadline: AwareDatetime = Field(default_factory=_default_deadline)
    """When it has to be begun."""
    may_take_s: float = 0.0
    """How long it may go on after that; so long it stays in its queue for another worker to take
    over."""
