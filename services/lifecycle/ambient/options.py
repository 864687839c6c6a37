"""The body of the operation `istio-ambient`: what is enrolled, and which waypoint it uses.

apiVersion: meshbus.io/v1
kind: AmbientOptions
spec:
  action: enrol
  namespaces: [shop]
  workloads: [{namespace: pay, name: ledger}]
  waypoint: {name: waypoint, for: service, bind: namespace}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import Ref
from services.chassis.messages import Verb
from services.chassis.operations.bodies import find_options
from services.lifecycle.rollouts.options import RolloutOptions, WaveOptions
from services.lifecycle.rollouts.records import RolloutRecord

KIND = "AmbientOptions"
_MOST_TARGETS = 500
_A_DAY_S = 24 * 3600
_MOST_TOLD = 4
_DONE = {
    "enrol": "brought into ambient",
    "withdraw": "taken out of ambient",
    "replace": "brought to another waypoint",
    "move": "moved from sidecars to ambient",
    "back": "brought back from ambient to sidecars",
}
_UNDONE_BY = {"enrol": "withdraw", "withdraw": "withdraw", "move": "back", "back": "back"}

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", max_length=253)
]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceOptions(_Written):
    """A Service: its pods are enrolled by the templates of their workloads."""

    namespace: Label
    name: Name


class WorkloadOptions(_Written):
    """A workload, enrolled by a label of its template: its pods restart."""

    namespace: Label
    name: Name
    kind: Literal["Deployment", "StatefulSet", "DaemonSet"] = "Deployment"

    @property
    def ref(self) -> Ref:
        return Ref("apps/v1", self.kind, self.namespace, self.name)


class WaypointOptions(_Written):
    """The waypoint that the targets use."""

    name: Label = "waypoint"
    namespace: Label | None = None
    """Where one stands that all targets share; each namespace of the targets has its own without
    it."""
    serves: Literal["service", "workload", "all", "none"] = Field(default="service", alias="for")
    """Whether it gets what is addressed to Services, to pods, or both."""
    revision: Label | None = None
    """The revision or tag that configures it; that of its namespace where it is silent."""
    replaces: Label | None = None
    """Of `replace`: the waypoint whose place it takes."""
    bind: Literal["namespace", "services"] = "namespace"
    """What is labelled to use it: the namespaces, or their Services one by one."""


class AmbientOptions(_Written):
    """The spec of an AmbientOptions document, checked."""

    action: Literal["enrol", "withdraw", "replace", "move", "back"] = "enrol"
    """`replace` puts a waypoint in another one's place. `move` takes namespaces from sidecars to
    ambient, `back` brings those back that it moved."""
    namespaces: list[Label] = Field(default_factory=list, max_length=_MOST_TARGETS)
    services: list[ServiceOptions] = Field(default_factory=list, max_length=_MOST_TARGETS)
    workloads: list[WorkloadOptions] = Field(default_factory=list, max_length=_MOST_TARGETS)
    waypoint: WaypointOptions | None = None
    """One that is made and used; of `withdraw` and `back` one that is used no more, and goes."""
    dry_run: bool = Field(default=False, alias="dryRun")
    """Of `move`: tells what it would change, and writes nothing."""
    policies: Literal["report", "attach"] = "report"
    """Whether `move` attaches policies of requests to the waypoint, or only names them."""
    force: bool = False
    """Moves although the report says that something is lost."""
    namespaces_at_once: int = Field(default=1, alias="namespacesAtOnce", ge=1, le=100)
    """Of `move` and `back`, which restart what runs there."""
    workloads_at_once: int = Field(default=4, alias="workloadsAtOnce", ge=1, le=100)
    disruption_timeout_s: int = Field(
        default=300, alias="disruptionTimeoutSeconds", ge=1, le=_A_DAY_S
    )
    """How long a PodDisruptionBudget may allow no disruption before the operation goes back."""
    readiness_timeout_s: int = Field(default=300, alias="readinessTimeoutSeconds", ge=1, le=3600)
    """How long a waypoint or a workload may take to become ready."""
    back_timeout_s: int = Field(default=3600, alias="backTimeoutSeconds", ge=0, le=_A_DAY_S)
    """How long a cluster's way back may come no further before it is given up."""

    @model_validator(mode="after")
    def _has_targets(self) -> AmbientOptions:
        if not self.targeted:
            raise ValueError("name what it is about: namespaces, services or workloads")
        old = self.waypoint.replaces if self.waypoint is not None else None
        if (old is not None) != (self.action == "replace"):
            raise ValueError("`replace` needs waypoint.replaces, which no other action has")
        if self.waypoint is not None and old == self.waypoint.name:
            raise ValueError("a waypoint does not take its own place: give the new one a name")
        moves = self.action in ("replace", "move", "back")
        if moves and (self.services or self.workloads):
            raise ValueError(f"{self.action} is about namespaces as a whole")
        if self.action != "move" and (self.dry_run or self.force or self.policies == "attach"):
            raise ValueError("dryRun, force and policies are for `action: move` alone")
        if self.policies == "attach" and self.waypoint is None:
            raise ValueError("policies are attached to a waypoint: name one")
        return self

    @property
    def targeted(self) -> list[str]:
        """The namespaces of all targets."""
        of_services = (one.namespace for one in self.services)
        of_workloads = (one.namespace for one in self.workloads)
        return sorted({*self.namespaces, *of_services, *of_workloads})


@dataclass(frozen=True, slots=True)
class AmbientRequest:
    """What was asked for."""

    options: AmbientOptions

    @property
    def title(self) -> str:
        """What is done, for people."""
        options = self.options
        named = [
            *options.namespaces,
            *(f"{one.namespace}/{one.name}" for one in options.services),
            *(f"{one.namespace}/{one.name}" for one in options.workloads),
        ]
        if options.dry_run:
            return f"{_briefly(named)}: a move to ambient tried"
        return f"{_briefly(named)} {_DONE[options.action]}"

    @property
    def enrols(self) -> bool:
        """Whether it brings something into ambient, or serves what is there."""
        return self.options.action in ("enrol", "replace", "move")

    @property
    def within(self) -> timedelta:
        return timedelta(seconds=self.options.readiness_timeout_s)

    def record(self, record: RolloutRecord) -> RolloutRecord:
        """The record with how its clusters go on."""
        options = self.options
        machine = RolloutOptions(
            what="ambient-report" if options.dry_run else "ambient",
            waves=[WaveOptions()],
            namespacesAtOnce=options.namespaces_at_once,
            workloadsAtOnce=options.workloads_at_once,
            disruptionTimeoutSeconds=options.disruption_timeout_s,
            backTimeoutSeconds=options.back_timeout_s,
        )
        return record.model_copy(update={"options": machine.model_dump(mode="json", by_alias=True)})

    def homes(self) -> list[str]:
        """The namespaces in which the waypoint stands."""
        waypoint = self.options.waypoint
        if waypoint is None:
            return []
        return [waypoint.namespace] if waypoint.namespace else self.options.targeted


def parse_ambient(body: str, *, verb: Verb = Verb.APPLY) -> AmbientRequest:
    """The request in `body`; a deletion withdraws, and of a move it is the way back. Raises
    `OptionsMalformed`."""
    options = find_options(body, KIND, AmbientOptions)
    if options is None:
        raise OptionsMalformed(
            f"the body holds no {KIND}",
            cause="what goes into ambient, or out of it, has to be named",
            remedy="docs/how-to/ambient.md has a body to begin with",
        )
    if verb is Verb.DELETE and options.action == "replace":
        raise OptionsMalformed(
            "a waypoint's place is taken, and not deleted",
            remedy="send `replace` with the names the other way round",
        )
    if verb is Verb.DELETE:
        options = options.model_copy(
            update={"action": _UNDONE_BY[options.action], "dry_run": False}
        )
    return AmbientRequest(options)


def _briefly(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return ", ".join(names[:_MOST_TOLD]) + more
