"""Commands: what the gateway (or a person with the nats CLI) asks a worker to do."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from enum import StrEnum

from pydantic import AwareDatetime, Field

from services.chassis.messages.models import Message
from services.chassis.messages.plans import Plan

# How long a command may wait and run when its sender does not say.
DEFAULT_TIME_TO_RUN = timedelta(minutes=30)


class Verb(StrEnum):
    """`apply` brings something into the cluster or changes it, `delete` takes it away."""

    APPLY = "apply"
    DELETE = "delete"


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
    credential: str = ""
    """Key in the bucket `credentials`; empty means the registered cluster's own."""
    deadline: AwareDatetime = Field(default_factory=_default_deadline)
    """When it has to be begun."""
    may_take_s: float = 0.0
    """How long it may go on after that; so long it stays in its queue for another worker to take
    over."""
