"""What the bucket `rollouts` holds: where each rollout stands, and what each cluster has answered.

Each key has one kind of writer, so nobody waits for another: `rollout.<rollout>` whoever holds the
rollout's lease, `part.<rollout>.<cluster>` the worker that has a step in hand, `wish.<rollout>`
people.
"""

from __future__ import annotations

from datetime import datetime, timezone
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from services.chassis.bus.subjects import token
from services.chassis.messages import ErrorReport, Severity
from services.chassis.messages.models import Message, Piece

BUCKET = "rollouts"
KIND = "istio-rollout"
"""The operation that this is about first of all."""
EVERYWHERE = "*"
"""In place of namespaces: what was changed is about all of them."""
MESHES = ("mesh", "mesh-leave")
"""What the options of a record say that is about a mesh of several clusters: it comes, or clusters
leave it."""
AMBIENT = ("ambient", "ambient-report")
"""The same of what goes into ambient, or out of it."""
OTHERS = {
    **dict.fromkeys(MESHES, "istio-multicluster"),
    **dict.fromkeys(AMBIENT, "istio-ambient"),
}
"""The operation by what the options say, of all that are no rollout to people."""
MOST_JUDGED = 60
"""Namespaces that a gate asks about one by one."""
MOST_CLUSTERS = 500
"""Of one rollout: its record is one message, and is written at each decision."""
MOST_OPTIONS_BYTES = 200_000
LONGEST_NAME = 253


def _now() -> datetime:
    return datetime.now(timezone.utc)


class RolloutStep(StrEnum):
    """What a worker does on one cluster."""

    PRECHECK = "precheck"
    CANARY = "canary"
    MOVE = "move"
    SWITCH = "switch"
    REMOVE = "remove"
    APPLY = "apply"
    """Of a manifest; the four before it are of a version."""
    BASELINE = "baseline"
    PROVE = "prove"
    """Of a performance gate: load tests before the cluster changes, and after."""
    COMPARE = "compare"
    """From here on of a mesh of several clusters."""
    TRUST = "trust"
    PLANE = "plane"
    REMOTE = "remote"
    ACCOUNT = "account"
    LINK = "link"
    CROSS = "cross"
    CHECK = "check"
    RETIRE = "retire"
    UNLINK = "unlink"
    LEAVE = "leave"
    BACK = "back"
    END = "end"


UNSTOPPABLE = frozenset({RolloutStep.REMOVE, RolloutStep.BACK, RolloutStep.END})
"""Steps that are brought to their end, whoever cancels."""


class Stage(StrEnum):
    """What the wave that is open does. `gathering` is before the first wave, `over` the end."""

    GATHERING = "gathering"
    PRECHECK = "precheck"
    BASELINE = "baseline"
    CANARY = "canary"
    MOVE = "move"
    APPLY = "apply"
    PROVE = "prove"
    COMPARE = "compare"
    TRUST = "trust"
    PLANE = "plane"
    REMOTE = "remote"
    ACCOUNT = "account"
    LINK = "link"
    CROSS = "cross"
    CHECK = "check"
    RETIRE = "retire"
    UNLINK = "unlink"
    LEAVE = "leave"
    GATE = "gate"
    SWITCH = "switch"
    SOAK = "soak"
    REMOVE = "remove"
    BACK = "back"
    OVER = "over"


class Fate(StrEnum):
    """What becomes of a cluster."""

    DONE = "done"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    LEFT = "left as it was"


class Note(Piece):
    """An event to tell, in a place of its own: told twice it is dropped by the server."""

    number: int
    cluster: str
    clusters: list[str] = Field(default_factory=list)
    """All that it is for; without any `cluster` alone, as earlier versions wrote it."""
    summary: str
    details: str = ""
    severity: Severity = Severity.INFO


class RolloutPart(Piece):
    """One cluster of a rollout."""

    cluster: str
    name: str = ""
    number: int = 0
    """Of the step that it was given last; each step given has a number of its own."""
    step: RolloutStep | None = None
    is_open: bool = False
    """Whether that step is not answered yet."""
    tries: int = 1
    """Of that step."""
    is_changed: bool = False
    """Whether something may have been written there."""
    is_leaving: bool = False
    """Somebody wants this cluster alone rolled back."""
    namespaces: list[str] = Field(default_factory=list)
    """Those that moved."""
    left: int = 0
    """How many are left for the same step once more."""
    failing_since: datetime | None = None
    """Since when its way back comes no further."""
    again_at: datetime | None = None
    """When its way back is tried again."""
    found: dict[str, str] = Field(default_factory=dict)
    """What a mesh of several clusters has found of this one, as its part has it."""
    fate: Fate | None = None
    reason: ErrorReport | None = None
    is_told: bool = False
    """Whether the operation has ended on this cluster."""

    @property
    def may_go_back(self) -> bool:
        """Whether the cluster's old revision is still there to go back to."""
        return self.is_changed and self.fate is None and self.step is not RolloutStep.REMOVE


class RolloutRecord(Message):
    """Where a rollout stands: the value of `rollouts/rollout.<rollout>`."""

    rollout: str
    """Id of the operation."""
    identity: str = ""
    """Who asked for it."""
    title: str = ""
    """What is rolled out."""
    version: str = ""
    revision: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    """The spec of the RolloutOptions, for whoever conducts; a step goes by its signed command."""
    waves: list[list[str]] = Field(default_factory=list)
    """Tokens of the clusters; decided when all have come."""
    wave: int = 0
    """Which one is open, from 0."""
    stage: Stage = Stage.GATHERING
    since: datetime = Field(default_factory=_now)
    """When the stage began."""
    broken_since: datetime | None = None
    """Since when the gate does not hold."""
    parts: dict[str, RolloutPart] = Field(default_factory=dict)
    is_paused: bool = False
    paused_at: datetime | None = None
    """Since when: a pause is no part of a window or a soak."""
    expires: datetime | None = None
    """Until then commands may be queued again; None before the first wave."""
    reason: ErrorReport | None = None
    """Why it was stopped; None for one that goes on."""
    notes: list[Note] = Field(default_factory=list)
    """Of the last decision, to be told once more by whoever takes over."""
    told: int = 0
    """Number of the last note."""
    begun: datetime = Field(default_factory=_now)
    ended: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.stage is Stage.OVER

    @property
    def what(self) -> str:
        """What the options say; what is of no other kind is a version."""
        return str(self.options.get("what", "istio"))

    @property
    def kind(self) -> str:
        """The operation whose clusters these are."""
        return OTHERS.get(self.what, KIND)

    @property
    def is_rollout(self) -> bool:
        """Whether it is one that people know by this name, with waves and a gate."""
        return self.kind == KIND


class PartRecord(Message):
    """A cluster's part of a rollout: the value of `rollouts/part.<rollout>.<cluster>`."""

    rollout: str
    cluster: str
    name: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    """The cluster's own, of its kubeconfig, where waves choose by labels."""
    region: str = ""
    """Whose workers take it, each time that it is queued."""
    command: str = ""
    """Base64 of the signed command, sealed to lifecycle as it was in the queue."""
    expires: AwareDatetime
    """Until then the command may be queued again."""
    number: int = 0
    """Of the step that was answered last."""
    is_done: bool = True
    error: ErrorReport | None = None
    is_retryable: bool = False
    namespaces: list[str] = Field(default_factory=list)
    left: int = 0
    """Namespaces that are left after this step: it is to be taken once more."""
    uid: str = ""
    """Of the cluster, by which no other address of it is in another rollout."""
    is_there: bool = False
    """The precheck has found nothing to do."""
    from_revision: str = ""
    """What it has found: the old revision."""
    from_version: str = ""
    was_there: bool = False
    """The new revision was installed before this rollout: it stays whatever becomes of it."""
    stays: str = ""
    """After the way back: why the new revision is still there."""
    tags: list[str] = Field(default_factory=list)
    """Those of the old revision."""
    former: str = ""
    """Base64 of the objects that the new revision takes over, or that a manifest changes, as they
    were, sealed to lifecycle."""
    undo: str = ""
    """Base64 of what a manifest changes in each object, and of its intent before, sealed to
    lifecycle (`manifesting.Former`)."""
    added: list[str] = Field(default_factory=list)
    """Objects that a manifest adds, as `kind namespace/name`: they go when it goes back."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """How long each step took."""
    found: dict[str, str] = Field(default_factory=dict)
    """What a mesh of several clusters has to know of this one; nothing secret."""
    handed: str = ""
    """Base64 of the object that lets the mesh's other clusters read this one, sealed to lifecycle;
    "" again when they have it."""


class WishRecord(Message):
    """What people want of a rollout: the value of `rollouts/wish.<rollout>`."""

    is_paused: bool = False
    aborts: bool = False
    back: list[str] = Field(default_factory=list)
    """Tokens of clusters to roll back; `*` stands for all. The audit has who wanted it."""


class ClaimRecord(Message):
    """The rollout that has a cluster: the value of `rollouts/claim.<key>`."""

    rollout: str
    cluster: str
    """Token by which that rollout knows it."""


def rollout_key(rollout: str) -> str:
    return f"rollout.{token(rollout)}"


def part_key(rollout: str, cluster: str) -> str:
    return f"part.{token(rollout)}.{token(cluster)}"


def wish_key(rollout: str) -> str:
    return f"wish.{token(rollout)}"


def claim_key(what: str) -> str:
    """`what` is a cluster's token, or the UID of one."""
    return f"claim.{token(what)}"


def shown(record: RolloutRecord, wish: WishRecord) -> dict[str, Any]:
    """A rollout for people."""
    clusters = []
    wave_of = {c: number for number, wave in enumerate(record.waves, start=1) for c in wave}
    for part in sorted(record.parts.values(), key=lambda p: (wave_of.get(p.cluster, 0), p.name)):
        # What was left as it was is so for the reason that stopped the rollout.
        reason = part.reason or (record.reason if part.fate is Fate.LEFT else None)
        clusters.append(
            {
                "cluster": part.cluster,
                "name": part.name,
                "wave": wave_of.get(part.cluster, 0),
                "step": part.step or "",
                "running": part.is_open,
                "tries": part.tries,
                "state": part.fate or ("under way" if part.step else "waiting"),
                "may_go_back": part.may_go_back
                and not part.is_leaving
                and record.what not in MESHES
                and not record.is_over,
                "namespaces": part.namespaces,
                **({"reason": reason.model_dump()} if reason else {}),
            }
        )
    return {
        "rollout": record.rollout,
        "title": record.title,
        "version": record.version,
        "revision": record.revision,
        "state": _state(record, wish),
        "wave": min(record.wave + 1, len(record.waves)),
        "waves": record.waves,
        "stage": record.stage,
        "broken_since": record.broken_since.isoformat(timespec="seconds")
        if record.broken_since
        else "",
        "since": record.since.isoformat(timespec="seconds"),
        "identity": record.identity,
        "begun": record.begun.isoformat(timespec="seconds"),
        "expires": record.expires.isoformat(timespec="seconds") if record.expires else "",
        "ended": record.ended.isoformat(timespec="seconds") if record.ended else "",
        "reason": record.reason.model_dump() if record.reason else None,
        "clusters": clusters,
    }


def _state(record: RolloutRecord, wish: WishRecord) -> str:
    if record.is_over:
        return "stopped" if record.reason else "done"
    if record.reason:
        return "rolling back"
    return "paused" if record.is_paused or wish.is_paused else "running"
