"""A cluster's part of a rollout: its command waits in the bucket, and takes a step when it comes.

The first delivery parks the command. Each further one is a step that the conductor gave: what it is
stands in the rollout's record, what it does in the signed command. The last one ends the operation.
A step that was answered is not done again, and each is the code of the operation `istio` (install,
uninstall), which finishes what an earlier attempt began.
"""

from __future__ import annotations

import asyncio
import base64
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import orjson
import structlog

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.records import Records
from services.chassis.errors import (
    BusUnavailable,
    InternalError,
    LeaseLost,
    MeshbusError,
    NotPermitted,
    OptionsMalformed,
    PrecheckRefused,
    RequestTooLarge,
    RevisionInUse,
    RevisionUnknown,
    RolloutStopped,
    VersionUnknown,
)
from services.chassis.kube.labelling import own_labels
from services.chassis.kube.objects import KubeObject, Ref, annotations_of
from services.chassis.messages import Command, ErrorReport, RequestRecord, Verb
from services.chassis.operations.completion import Parked, Result, first_error
from services.chassis.operations.progress import masked
from services.chassis.policy import Identity, Policy
from services.chassis.reading.aside import read_aside
from services.lifecycle.authority import asker
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Found
from services.lifecycle.cluster.inventory import Inventory, take_inventory
from services.lifecycle.manifests.objects import PlannedObject, in_waves, listing
from services.lifecycle.manifests.readiness import await_ready
from services.lifecycle.manifests.work import Work
from services.lifecycle.mesh.installing import Installer, InstallPlan
from services.lifecycle.mesh.prechecks import require_alone, system_namespace
from services.lifecycle.mesh.requests import MeshRequest
from services.lifecycle.mesh.safety import with_identity
from services.lifecycle.mesh.uninstalling import uninstall
from services.lifecycle.rollouts.gates import Ask
from services.lifecycle.rollouts.manifesting import Manifest, bare, formers
from services.lifecycle.rollouts.moving import Mover, Origin, Restarter
from services.lifecycle.rollouts.options import RolloutRequest, parse_rollout
from services.lifecycle.rollouts.proving import LoadTests
from services.lifecycle.rollouts.records import (
    LONGEST_NAME,
    MOST_CLUSTERS,
    MOST_OPTIONS_BYTES,
    UNSTOPPABLE,
    Fate,
    PartRecord,
    RolloutPart,
    RolloutRecord,
    RolloutStep,
)
from services.lifecycle.rollouts.store import Store

_LOOK_EVERY_S = 2.0
_LOAD_TEST = "performance-test"
_MOST_TOLD = 5
_GATEWAY = ("gateway.networking.k8s.io", "Gateway")
_MESHED = "security.istio.io/tlsMode=istio"
_TITLES = {
    RolloutStep.PRECHECK: "prechecks",
    RolloutStep.CANARY: "the new revision comes up",
    RolloutStep.MOVE: "namespaces move",
    RolloutStep.SWITCH: "tags and gateways move",
    RolloutStep.REMOVE: "the old revision goes",
    RolloutStep.APPLY: "the objects are applied",
    RolloutStep.BASELINE: "load tests before",
    RolloutStep.PROVE: "load tests after",
    RolloutStep.BACK: "rollback",
}

log = structlog.get_logger(__name__)


class Plan(Protocol):
    """What a body asks for, as far as the machine has to know it."""

    @property
    def title(self) -> str:
        """What is done, for people."""
        ...

    def record(self, record: RolloutRecord) -> RolloutRecord:
        """The record with what the plan knows; raises for clusters that it does not fit."""
        ...


P = TypeVar("P", bound=Plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(ABC, Generic[P]):
    """An operation whose commands wait in the bucket, in one worker."""

    store: Store
    requests: Records[RequestRecord]
    enrolled: Callable[[], None]
    """Called when a cluster has come."""
    waits: ClassVar[str] = "Waits for its wave of the rollout of"

    @abstractmethod
    async def plan(self, command: Command) -> P:
        """What the command's body asks for; raises for one that asks for nothing."""

    @abstractmethod
    def stepping(self, taken: Taken, plan: P) -> Stepping:
        """What takes the step."""

    @abstractmethod
    def result(self, record: RolloutRecord, part: RolloutPart, kept: PartRecord) -> Result:
        """What is told of a cluster that is done."""

    def part(self, work: Work, plan: P) -> PartRecord:
        """What is kept of a cluster that comes; raises for whoever may not ask for the plan."""
        return _part(work)

    async def run(self, work: Work) -> Result | Parked:
        """Parks the command, takes the step that was given, or ends the operation."""
        command = work.command
        stored = await self.store.part(command.operation, command.cluster)
        if stored is None:
            await self._enrol(work)
            return Parked()
        record = await self.store.rollout(command.operation)
        part = record.parts.get(command.cluster) if record is not None else None
        if record is None or part is None or not part.is_open or part.step is None:
            return Parked()
        if part.step in UNSTOPPABLE:
            work.fence.carry_on(lambda: _tell_that_it_goes_on(work, part))
        if part.step is RolloutStep.END:
            return await self._end(work, record, part, stored[0])
        if stored[0].number != part.number:
            taken = Taken(work, record, *stored, number=part.number)
            await self.stepping(taken, await self.plan(command)).take(part.step)
        return Parked()

    # --- coming ---------------------------------------------------------------------------------

    async def _enrol(self, work: Work) -> None:
        """Keeps the command for later. Raises `RolloutBusy` for a cluster that another rollout has,
        and what is wrong with the body."""
        command = work.command
        plan = await self.plan(command)
        wanted = await self._record(command, plan)
        _require_room(wanted)
        part = self.part(work, plan)
        await self.store.claim(command.cluster, rollout=command.operation, cluster=command.cluster)
        record = await self.store.create(wanted)
        if command.cluster not in record.parts:
            raise RolloutStopped(
                f"operation {command.operation} began without this cluster",
                cause="its clusters are those of the request that made it",
                remedy="send one request that names all clusters",
            )
        work.fence.check()
        await self.store.enrol(part)
        work.progress.note(f"{self.waits} {plan.title}")
        self.enrolled()

    async def _record(self, command: Command, plan: P) -> RolloutRecord:
        stored = await self.requests.get(subjects.operation_key(command.operation))
        names = {command.cluster: command.cluster_name}
        if stored is not None:
            names = {c: stored[0].cluster_names.get(c, "") for c in stored[0].clusters}
        record = RolloutRecord(
            rollout=command.operation,
            identity=asker(command.grant),
            title=plan.title,
            parts={c: RolloutPart(cluster=c, name=n[:LONGEST_NAME]) for c, n in names.items()},
        )
        return plan.record(record)

    # --- ending ---------------------------------------------------------------------------------

    async def _end(
        self, work: Work, record: RolloutRecord, part: RolloutPart, kept: PartRecord
    ) -> Result:
        """The end of the operation on this cluster, by its fate."""
        await self.store.release(part.cluster, rollout=record.rollout)
        if kept.uid:
            await self.store.release(kept.uid, rollout=record.rollout)
        if part.fate is Fate.DONE:
            return self.result(record, part, kept)
        raise self.stopped(record, part, kept)

    def stopped(self, record: RolloutRecord, part: RolloutPart, kept: PartRecord) -> MeshbusError:
        """What is told of a cluster that is not done."""
        reason = part.reason or record.reason
        why = f": {reason.summary}" if reason is not None else ""
        if part.fate is Fate.FAILED and reason is not None:
            return reason.error()
        words = "was rolled back" if part.fate is Fate.ROLLED_BACK else "was left as it was"
        if part.fate is Fate.LEFT and part.is_changed:
            words = "was left on the way, and goes on when the operation is sent again"
        stays = f"; {kept.stays}" if kept.stays else ""
        return RolloutStopped(
            f"the cluster {words}{why}{stays}",
            cause=reason.cause if reason is not None else "somebody wanted this cluster back",
            remedy=reason.remedy if reason is not None else "send the rollout again for it",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts(Parts[RolloutRequest]):
    """The operation `istio-rollout` in one worker."""

    installer: Installer
    perf: Ask
    """The answer of `mesh.perf.<verb>`, for a performance gate."""
    policy: Callable[[], Policy]

    async def plan(self, command: Command) -> RolloutRequest:
        if command.verb is Verb.DELETE:
            raise OptionsMalformed(
                "a rollout is not deleted",
                remedy="abort it: `nats req mesh.lifecycle.rolloutabort`",
            )
        return await _request(command)

    def part(self, work: Work, plan: RolloutRequest) -> PartRecord:
        if plan.options.gate.performance is not None:
            self._require_tests(work.command)
        extensions = work.cluster.client.config.extensions
        labels = own_labels(extensions) if plan.options.chooses_by_labels else {}
        return _part(work).model_copy(update={"labels": labels})

    def _require_tests(self, command: Command) -> None:
        """Raises `NotPermitted` for whoever may roll out, and may not drive load."""
        if command.grant is None:
            return
        grant, cluster = command.grant.claimed(), command.cluster
        policy, identity = self.policy(), Identity(grant.identity, frozenset(grant.groups))
        if not policy.may_ask(identity, "perf.run", cluster=cluster) and not policy.namespaces(
            identity, kind=_LOAD_TEST, verb=command.verb, cluster=cluster
        ):
            raise NotPermitted(
                f"{identity.name} may not run load tests about cluster {cluster}",
                cause=f"the policy allows neither {_LOAD_TEST} nor perf.run there",
                remedy="leave spec.gate.performance out, or have the policy allow it",
                subject=identity.name,
            )

    def stepping(self, taken: Taken, plan: RolloutRequest) -> Stepping:
        return _Rolling(taken, self, plan)

    def result(self, record: RolloutRecord, part: RolloutPart, kept: PartRecord) -> Result:
        return _result(record, part, kept)


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that a worker has in hand: the operation's record, and the cluster's part as it was
    stored, under which revision."""

    work: Work
    record: RolloutRecord
    kept: PartRecord
    revision: int
    number: int


class Stepping(ABC):
    """One step in the hands of one worker."""

    what = "Rollout"
    titles: Mapping[RolloutStep, str]
    looking: Collection[RolloutStep]
    """Steps that change no mesh."""
    elsewhere: Collection[RolloutStep] = ()
    """Steps that need neither the cluster nor a slot, and may take long."""

    def __init__(self, taken: Taken, store: Store) -> None:
        self.work, self.kept, self.record = taken.work, taken.kept, taken.record
        self._revision, self._number, self._store = taken.revision, taken.number, store
        self._left = 0
        """Namespaces for which the step is to be taken once more."""

    @abstractmethod
    def steps(self) -> Mapping[RolloutStep, Callable[[], Awaitable[None]]]:
        """What each step does."""

    async def take(self, step: RolloutStep) -> None:
        """Takes the step and stores the answer, also that it failed. Raises what another delivery
        is for: a lost claim, a lost bus."""
        began = time.monotonic()
        title = f"{self.what}: {self.titles[step]}"
        self.work.progress.note(title)
        error: ErrorReport | None = None
        is_retryable = False
        try:
            is_mesh = step not in self.looking
            is_here = step not in self.elsewhere
            async with self.work.reach(is_mesh=is_mesh) if is_here else nullcontext():
                await self.steps()[step]()
                await self.work.engine.ledger.settle()
        except Exception as raised:
            found = first_error(raised)
            if isinstance(found, LeaseLost | BusUnavailable):
                raise
            if isinstance(found, InternalError):
                log.exception("rollout_step_crashed", step=step)
            error, is_retryable = masked(ErrorReport.of(found)), found.retryable
        seconds = time.monotonic() - began
        took = self.kept.seconds.get(step.value, 0.0) + seconds
        await self.keep(
            number=self._number,
            is_done=error is None,
            error=error,
            is_retryable=is_retryable,
            left=self._left if error is None else 0,
            seconds={**self.kept.seconds, step.value: round(took, 2)},
        )
        if error is None:
            self.work.progress.note(f"{title}: done in {seconds:.1f} s")
        else:
            self.work.progress.warn(f"{title}: {error.summary}", f"{error.cause}. {error.remedy}")

    async def keep(self, **fields: Any) -> None:
        """Stores what the step has found so far; raises `LeaseLost` when another worker has it."""
        # A fence that was stopped on request must not keep the answer back.
        if not self.work.fence.is_stopped:
            self.work.fence.check()
        self.kept = self.kept.model_copy(update=fields)
        self._revision = await self._store.answer(self.kept, revision=self._revision)


class _Rolling(Stepping):
    """A step of a rollout."""

    titles = _TITLES
    looking = frozenset({RolloutStep.PRECHECK})
    elsewhere = frozenset({RolloutStep.BASELINE, RolloutStep.PROVE})

    def __init__(self, taken: Taken, own: Rollouts, request: RolloutRequest) -> None:
        super().__init__(taken, own.store)
        self.own, self.request = own, request

    def steps(self) -> Mapping[RolloutStep, Callable[[], Awaitable[None]]]:
        return {
            RolloutStep.PRECHECK: self._precheck,
            RolloutStep.CANARY: self._canary,
            RolloutStep.MOVE: self._move,
            RolloutStep.SWITCH: self._switch,
            RolloutStep.REMOVE: self._remove,
            RolloutStep.APPLY: self._apply,
            RolloutStep.BASELINE: self._baseline,
            RolloutStep.PROVE: self._prove,
            RolloutStep.BACK: self._back,
        }

    async def _precheck(self) -> None:
        """Finds the revision to move from, and checks the new one without a write."""
        uid = await self.work.cluster.identity()
        await self.own.store.claim(uid, rollout=self.kept.rollout, cluster=self.kept.cluster)
        await self.keep(uid=uid)
        if self._is_manifest:
            await self._manifest.check()
            return
        inventory = await take_inventory(self.work.cluster)
        old = self._old(inventory)
        if not old:
            self.kept = self.kept.model_copy(update={"is_there": True})
            return
        require_alone(inventory, old, system_namespace(self.request.mesh, inventory, old))
        tags = sorted(tag for tag, revision in inventory.tags().items() if revision == old)
        version = inventory.revisions()[old]
        await self.keep(
            from_revision=old,
            from_version=version,
            tags=tags,
            was_there=self.request.mesh.revision in inventory.revisions(),
        )
        await self.own.installer.check(self.work, await self._beside())

    def _old(self, inventory: Inventory) -> str:
        """The revision to move from; "" where only the new one is left, with its version."""
        revisions = inventory.revisions()
        new, named = self.request.mesh.revision, self.request.options.from_revision
        others = sorted(name for name in revisions if name != new)
        if named:
            if named not in others:
                raise RevisionUnknown(
                    f"revision {named} is not installed; installed: {', '.join(others) or 'none'}"
                )
            return named
        if len(others) == 1:
            return others[0]
        if others:
            raise RevisionUnknown(
                f"several revisions are installed: {', '.join(others)}",
                cause="the rollout does not say which one to move from",
                remedy="name it: fromRevision of the RolloutOptions",
            )
        if revisions.get(new) == self.request.version:
            return ""
        if new in revisions:
            raise VersionUnknown(
                f"revision {new} is there with version {revisions[new] or '?'}",
                cause="a rollout goes from one revision to another one",
                remedy="name another revision in the LifecycleOptions",
            )
        raise PrecheckRefused(
            "there is no Istio to move from",
            cause="a rollout upgrades meshes that are there",
            remedy="install it by the operation `istio`",
        )

    async def _canary(self) -> None:
        await self._install(await self._beside())

    async def _move(self) -> None:
        moved = await self._mover().move(self._origin)
        self._left = moved.left
        self.kept = self.kept.model_copy(update={"namespaces": list(moved.names)})

    async def _switch(self) -> None:
        """Moves the named tags and what both revisions would have, such as gateways. How these were
        is kept before the first write."""
        tags = [*self.kept.tags, *await self._own_tags()]
        request = replace(await self._mesh(), tags=tuple(sorted(set(tags))))
        await self._install(request, before=self._remember)
        # Namespaces that came since the move, by a tag that still meant the old revision.
        while (await self._mover().move(self._origin)).left:
            pass
        await self._await_moved()

    async def _remove(self) -> None:
        """Removes the old revision, and gives namespaces their former labels again."""
        old = self.kept.from_revision
        inventory = await take_inventory(self.work.cluster)
        if self.request.mesh.revision not in inventory.revisions():
            raise RevisionUnknown(f"revision {self.request.mesh.revision} is not installed")
        if old in inventory.revisions():
            await self._await_moved()
            await uninstall(self.work, self.request.old(old))
        if old == istio.DEFAULT_REVISION:
            # As long as the unnamed one was there, its own webhook stood for the default tag.
            tags = {*await self._own_tags(), istio.DEFAULT_TAG}
            await self._install(replace(await self._mesh(), tags=tuple(sorted(tags))))
        await self._mover().settle(old)

    async def _apply(self) -> None:
        """Applies a manifest. How its objects were is kept before the first write."""
        if not self.kept.former:
            former = await self._manifest.remember()
            await self.keep(
                former=self.own.store.sealed([one.obj for one in former if one.obj]),
                undo=self.own.store.sealed([one.document() for one in former]),
                added=[str(one.ref) for one in former if not one.obj],
            )
        await self._manifest.apply()
        names = await self._manifest.namespaces()
        self.kept = self.kept.model_copy(update={"namespaces": names})

    async def _baseline(self) -> None:
        await self._load_tests.before()

    async def _prove(self) -> None:
        await self._load_tests.after()

    @property
    def _load_tests(self) -> LoadTests:
        performance = self.request.options.gate.performance
        if performance is None:
            raise RolloutStopped("the rollout has no performance gate")
        return LoadTests(
            ask=self.own.perf, work=self.work, options=performance, rollout=self.kept.rollout
        )

    async def _back(self) -> None:
        """Brings the old revision its objects and namespaces again, and removes the new one unless
        others use it; of a manifest puts back what was there."""
        if self._is_manifest:
            if self.kept.former:
                opened = self.own.store.opened
                undo = opened(self.kept.undo) if self.kept.undo else []
                former = formers(opened(self.kept.former), undo)
                await self._manifest.put_back(former, added=self.kept.added)
            return
        old = self.kept.from_revision
        if old not in (await take_inventory(self.work.cluster)).revisions():
            raise RevisionUnknown(
                f"revision {old or '(none)'} is not installed: there is nothing to go back to"
            )
        if self.kept.former:
            await self._restore(self.own.store.opened(self.kept.former))
            self.kept = self.kept.model_copy(update={"former": ""})
        self._left = (await self._mover().move_back()).left
        if self._left == 0:
            await self._remove_new()

    async def _remove_new(self) -> None:
        """Removes the new revision, or tells why it stays: others' proxies would lose the control
        plane that they follow."""
        new = self.request.mesh.revision
        if new not in (await take_inventory(self.work.cluster)).revisions():
            return
        why = "it was there before the rollout" if self.kept.was_there else ""
        why = why or await self._others_on(new)
        if why:
            self.kept = self.kept.model_copy(update={"stays": f"revision {new} stays: {why}"})
            self.work.progress.warn(
                f"Revision {new} stays: {why}",
                "Move what uses it, and remove it then (docs/how-to/canary.md).",
            )
            return
        await uninstall(self.work, replace(self.request.old(new), force=True))

    # --- parts of steps -------------------------------------------------------------------------

    @property
    def _is_manifest(self) -> bool:
        return self.request.options.what == "manifest"

    @property
    def _manifest(self) -> Manifest:
        return Manifest(self.work, self.request)

    @property
    def _origin(self) -> Origin:
        return Origin(self.kept.from_revision, tuple(self.kept.tags))

    def _mover(self) -> Mover:
        options = self.request.options
        restarter = Restarter(
            work=self.work,
            workloads_at_once=options.workloads_at_once,
            within=self.request.mesh.readiness_timeout,
            patience=timedelta(seconds=options.disruption_timeout_s),
        )
        return Mover(
            work=self.work,
            restarter=restarter,
            rollout=self.kept.rollout,
            labels={istio.REVISION: self.request.mesh.revision, istio.INJECTION: None},
            goal=f"revision {self.request.mesh.revision}",
            namespaces_at_once=options.namespaces_at_once,
        )

    async def _mesh(self) -> MeshRequest:
        """The new revision, in the namespace and with the identity of the old one."""
        request = self.request.mesh
        if not request.namespace_given:
            inventory = await take_inventory(self.work.cluster)
            revisions = (self.kept.from_revision, request.revision)
            request = replace(request, namespace=system_namespace(request, inventory, *revisions))
        return await with_identity(self.work.cluster, request, revision=self.kept.from_revision)

    async def _beside(self) -> MeshRequest:
        return replace(await self._mesh(), beside=True)

    async def _install(
        self,
        request: MeshRequest,
        before: Callable[[InstallPlan], Awaitable[None]] | None = None,
    ) -> None:
        work = replace(
            self.work, command=self.work.command.model_copy(update={"version": self._version})
        )
        await self.own.installer.install(work, request, before=before)

    @property
    def _version(self) -> str:
        return self.request.version

    async def _own_tags(self) -> list[str]:
        inventory = await take_inventory(self.work.cluster)
        new = self.request.mesh.revision
        return [tag for tag, revision in inventory.tags().items() if revision == new]

    async def _remember(self, plan: InstallPlan) -> None:
        """Keeps the objects that the old revision gives up, as they are now: once."""
        taken = [ref for ref in plan.taken if not self.kept.former]
        live = await asyncio.gather(*(self.work.cluster.get(ref) for ref in taken))
        former = [bare(ref, obj) for ref, obj in zip(taken, live, strict=True) if obj is not None]
        if former:
            await self.keep(former=self.own.store.sealed(former))

    async def _restore(self, objects: list[KubeObject]) -> None:
        """Writes objects as they were before the new revision took them."""
        planned = [PlannedObject.of(obj) for obj in objects]
        for wave, of_wave in in_waves(planned):
            await self.work.engine.apply_wave(wave, of_wave, take_over=True)
            await await_ready(self.work, of_wave, within=self.request.mesh.readiness_timeout)
        self.work.progress.note(
            f"{len(planned)} objects are the old revision's again",
            listing([one.ref for one in planned]),
        )

    async def _await_moved(self) -> None:
        """Waits until no running pod has a sidecar of the old revision: a job comes to its end.
        Raises `RevisionInUse` for those that stay."""
        old, loop = self.kept.from_revision, asyncio.get_running_loop()
        deadline = loop.time() + self.request.options.disruption_timeout_s
        is_told = False
        while left := await self._left_behind(old):
            self.work.fence.check()
            if loop.time() > deadline:
                raise RevisionInUse(
                    f"pods still have sidecars of revision {old}: {listing(left)}",
                    cause="their own labels name it, or nothing restarts them",
                    remedy="correct the label `istio.io/rev` of the workloads, or restart them",
                )
            if not is_told:
                is_told = True
                self.work.progress.note(
                    f"Waits for {len(left)} pods with sidecars of revision {old}", listing(left)
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _left_behind(self, revision: str) -> list[Ref]:
        """Running pods with a sidecar of the revision."""
        pods = await self._running(_MESHED)
        return [p.ref for p in pods if annotations_of(p.obj).get(istio.REVISION) == revision]

    async def _running(self, selector: str) -> list[Found]:
        found = await self.work.cluster.select(
            [("", "Pod")], selector=selector, fields="status.phase=Running"
        )
        return [pod for pod in found if not pod.obj["metadata"].get("deletionTimestamp")]

    async def _others_on(self, revision: str) -> str:
        """Who uses the revision that this rollout has not brought there; "" for nobody. Waits for
        pods that come to their end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.request.options.disruption_timeout_s
        own = f"!{istio.COMPONENT}"
        while True:
            self.work.fence.check()
            tags = (await take_inventory(self.work.cluster)).tags()
            named = [tag for tag, meant in tags.items() if meant == revision]
            asking = f"{istio.REVISION} in ({','.join([revision, *named])}),{own}"
            there, labelled, followed = await asyncio.gather(
                self.work.cluster.select([("", "Namespace"), _GATEWAY], selector=asking),
                self._running(asking),
                self._left_behind(revision),
            )
            pods = sorted({*(pod.ref for pod in labelled), *followed})
            users = [*(f"tag {tag}" for tag in sorted(named)), *(str(one.ref) for one in there)]
            if (users or pods) and (users or loop.time() > deadline):
                told = [*users, *(str(ref) for ref in pods)]
                more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
                return f"{', '.join(told[:_MOST_TOLD])}{more} use it"
            if not pods:
                return ""
            await asyncio.sleep(_LOOK_EVERY_S)


def _require_room(record: RolloutRecord) -> None:
    """Raises `RequestTooLarge` for a rollout whose record would not fit into a message."""
    count, size = len(record.parts), len(orjson.dumps(record.options))
    if count > MOST_CLUSTERS:
        raise RequestTooLarge(
            f"the rollout has {count} clusters, {MOST_CLUSTERS} may be",
            cause="where all of them stand is one record",
            remedy="send several rollouts",
        )
    if size > MOST_OPTIONS_BYTES:
        raise RequestTooLarge(
            f"the RolloutOptions take {size} bytes, {MOST_OPTIONS_BYTES} may be",
            cause="they are a part of the rollout's record",
            remedy="choose clusters by patterns or labels instead of by all their names",
        )


def _tell_that_it_goes_on(work: Work, part: RolloutPart) -> None:
    if part.step in _TITLES:
        work.progress.warn(
            f"Not cancelled: {_TITLES[part.step]}, which is brought to its end",
            "A cancelled rollout goes back; half of a way back would leave the cluster in between.",
        )


async def _request(command: Command) -> RolloutRequest:
    body, version = command.body, command.version
    return await read_aside(lambda: parse_rollout(body, version=version), size=len(body))


def _part(work: Work) -> PartRecord:
    """The command as it is queued again: it may be begun as long as the operation may take."""
    command = work.command
    expires = command.deadline + timedelta(seconds=command.may_take_s)
    kept = command.model_copy(update={"deadline": expires, "may_take_s": 0.0})
    body, headers = envelopes.encode(kept, content_type=envelopes.MSGPACK)
    keys = work.engine.ledger.keys
    body, headers = envelopes.sealed(body, headers, keys=keys, recipient="lifecycle")
    headers |= {
        envelopes.OPERATION: command.operation,
        envelopes.KIND: f"{command.verb} {command.kind}",
    }
    return PartRecord(
        rollout=command.operation,
        cluster=command.cluster,
        name=command.cluster_name,
        headers=headers,
        region=command.region,
        command=base64.b64encode(body).decode(),
        expires=expires,
    )


def _result(record: RolloutRecord, part: RolloutPart, kept: PartRecord) -> Result:
    if record.options.get("what") == "manifest":
        return Result(
            f"{record.title} rolled out successfully",
            f"{len(kept.added)} of {record.title} were added",
        )
    if kept.is_there:
        return Result(
            f"Istio service mesh {record.version} rolled out successfully: it was there",
            f"Only revision {record.revision} is installed; nothing was changed.",
        )
    took = sum(kept.seconds.values())
    old = f"{kept.from_revision} ({kept.from_version or '?'})"
    is_kept = RolloutStep.REMOVE.value not in kept.seconds
    return Result(
        f"Istio service mesh {record.version} rolled out successfully",
        f"Revision {record.revision} has taken the place of {old}"
        + (", which is still installed" if is_kept else "")
        + f": {len(kept.namespaces)} namespaces moved, tags "
        + f"{', '.join(kept.tags) or '(none)'}; {took:.1f} s of work",
        (("namespaces", len(kept.namespaces)), ("seconds", took)),
    )
