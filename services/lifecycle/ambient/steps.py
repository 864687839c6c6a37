"""The operation `istio-ambient`: parked and conducted as rollouts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.chassis.errors import MeshbusError, OperationCancelled
from services.chassis.messages import Command
from services.chassis.operations.completion import Result
from services.chassis.reading.aside import read_aside
from services.lifecycle.ambient.enrolling import Enrolling
from services.lifecycle.ambient.moves import Moving, Returning
from services.lifecycle.ambient.options import AmbientRequest, parse_ambient
from services.lifecycle.ambient.replacing import Replacing
from services.lifecycle.manifests.reach import Reach
from services.lifecycle.manifests.work import Work
from services.lifecycle.rollouts.records import Fate, PartRecord, RolloutPart, RolloutRecord
from services.lifecycle.rollouts.steps import Parts, Stepping, Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient(Parts[AmbientRequest]):
    """The operation `istio-ambient` in one worker."""

    waits: ClassVar[str] = "Waits for the other clusters of"

    async def plan(self, command: Command) -> AmbientRequest:
        body, verb = command.body, command.verb
        return await read_aside(lambda: parse_ambient(body, verb=verb), size=len(body))

    def part(self, work: Work, plan: AmbientRequest) -> PartRecord:
        reach = Reach.of(work.command)
        for namespace in (*plan.options.targeted, *plan.homes()):
            reach.require_namespace(namespace, what=f"objects of namespace {namespace}")
        return Parts.part(self, work, plan)

    def stepping(self, taken: Taken, plan: AmbientRequest) -> Stepping:
        stepping = {"replace": Replacing, "move": Moving, "back": Returning}.get(
            plan.options.action, Enrolling
        )
        return stepping(taken, self.store, plan)

    def result(self, record: RolloutRecord, part: RolloutPart, kept: PartRecord) -> Result:
        found = kept.found
        took = sum(kept.seconds.values())
        waypoints = f"; waypoints: {found['waypoints']}" if found.get("waypoints") else ""
        attached = f"; {found['attached']} policies attached" if found.get("attached") else ""
        stays = f"; {kept.stays}" if kept.stays else ""
        if record.what == "ambient-report":
            return Result(
                f"{record.title} successfully",
                f"{found.get('lost')} objects would be lost, {found.get('changed')} would mean "
                "something else; nothing was changed",
            )
        return Result(
            f"{record.title} successfully",
            f"{found.get('labelled', '0')} objects were labelled{waypoints}{attached}{stays}; "
            f"{took:.1f} s of work",
            (("labelled", int(found.get("labelled", "0"))), ("seconds", took)),
        )

    def stopped(self, record: RolloutRecord, part: RolloutPart, kept: PartRecord) -> MeshbusError:
        """A cluster that failed by itself tells its own error, and one that was cancelled that."""
        own = part.reason
        if own is None and record.reason is not None:
            own = record.reason if record.reason.code == OperationCancelled.code else None
        if own is None:
            return Parts.stopped(self, record, part, kept)
        was_changed = part.fate is Fate.ROLLED_BACK
        stays = f", but {kept.stays}" if kept.stays else ""
        after = f"; the cluster has gone back{stays}"
        return own.model_copy(
            update={"summary": own.summary + (after if was_changed else "")}
        ).error()
