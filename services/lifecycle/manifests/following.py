"""Sources that were applied and whose translation follows the cluster: the bucket `following`.

Lifecycle alone writes it, and only after it carried a signed operation out. What stands there is
therefore a standing grant: the translator may bring the translation of this source again, and
nothing else, for as long as the source is neither sent anew nor deleted.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone

import structlog

from services.chassis.bus import envelopes
from services.chassis.bus.leases import Fence, Leases, in_turn
from services.chassis.bus.publishing import has_no_room
from services.chassis.bus.records import Bucket, Records, RevisionConflict
from services.chassis.errors import (
    BusUnavailable,
    DeadlineExpired,
    GrantRefused,
    Superseded,
)
from services.chassis.kube.objects import KubeObject, Ref, annotations_of
from services.chassis.messages import (
    Command,
    Follow,
    Followed,
    FollowMode,
    Plan,
    SignedGrant,
    Step,
    StepKind,
    Verb,
)
from services.chassis.messages.following import (
    ACCOUNT,
    MADE_KINDS,
    SERVICE,
    TRANSLATED_FROM,
    followed_operation,
    followed_revision,
    following_key,
    named,
)
from services.chassis.operations.progress import Progress

_PAUSE_FOR_A_FOLLOWING_S = 0.1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Followings:
    """The records of followed sources."""

    records: Records[Followed]
    clusters: Bucket
    """Registered ones: nobody watches another."""
    leases: Leases

    async def judge(self, command: Command) -> None:
        """Judges the plan of a source that is translated again by its record.

        Raises `GrantRefused` for what is no translation of the source that was sent, and
        `Superseded` when that source was sent anew or deleted since.
        """
        plan = command.plan
        if plan is None or len(plan.follow) != 1 or plan.ends:
            raise GrantRefused("a following is about one source")
        if command.verb is not Verb.APPLY or command.credential:
            raise GrantRefused("a following only applies, and as registered")
        follow = plan.follow[0]
        stored = await self._stored(command.cluster, follow.source)
        record = _meant(stored, command, follow.source)
        _same_grant(record, command)
        if {fact.place for fact in follow.facts} != {fact.place for fact in record.facts}:
            raise GrantRefused(f"{record.source[:160]} depends on other things than it did")
        if plan.steps and record.mode is not FollowMode.APPLY:
            raise GrantRefused(f"{record.source[:160]} is only to be reported")
        for step in plan.steps:
            _judge_step(step, record)

    @asynccontextmanager
    async def turn(
        self, command: Command, plan: Plan, progress: Progress, fence: Fence
    ) -> AsyncIterator[None]:
        """The block carries a plan out, while no other following of its sources is carried out;
        what the plan wants followed is kept after it.

        What is sent anew or deleted is followed no more before the first write, and a following
        that is under way is waited for: it would write later what its source was before.
        Raises `Superseded` for a following whose source was sent anew, deleted or followed
        meanwhile, and `DeadlineExpired` when those under way do not end in time.
        """
        if not followed_operation(command.operation):
            sources = [*plan.ends, *(follow.source for follow in plan.follow)]
            ended = await self._end(command.cluster, sources)
            await fence.guard(self._are_over(ended, command))
            yield
            await self._keep_all(command, plan, progress)
            return
        source = plan.follow[0].source
        lease = _lease_of(following_key(command.cluster, source))
        async with in_turn(
            lambda: self.leases.held(
                lease, operation=command.operation, attempt=progress.attempt, fence=fence
            ),
            fence=fence,
            until=command.deadline,
        ):
            # It was judged before, and may have been ended or renewed in between.
            _meant(await self._stored(command.cluster, source), command, source)
            yield
            await self._renew(command, plan)

    async def forget(self, cluster: str) -> None:
        """Ends all following on a cluster."""
        keys = await self.records.bucket.keys(matching=f"{cluster}.>")
        await asyncio.gather(*(self.records.bucket.delete(key) for key in keys))

    async def _keep_all(self, command: Command, plan: Plan, progress: Progress) -> None:
        if not plan.follow:
            return
        if command.grant is None or await self.clusters.get(command.cluster) is None:
            progress.warn(
                "Not followed: the cluster is not registered, so nobody watches it",
                f"Apply it again when these change: {_facts(plan.follow)}",
            )
            return
        try:
            await asyncio.gather(
                *(self._keep(command, command.grant, follow, plan) for follow in plan.follow)
            )
        except BusUnavailable as error:
            if not has_no_room(error.__cause__):
                raise
            progress.warn("Not followed: there is no room to keep the source", error.remedy)

    async def _keep(self, command: Command, grant: SignedGrant, follow: Follow, plan: Plan) -> None:
        keys = self.records.bucket.bus.keys
        sent = command.model_copy(
            update={"plan": None, "body": command.asked, "asked": "", "credential": ""}
        )
        body, headers = envelopes.encode(sent, content_type=envelopes.MSGPACK)
        body, headers = envelopes.sealed(body, headers, keys=keys, recipient="translator")
        record = Followed(
            source=follow.source,
            mode=FollowMode(follow.mode or FollowMode.APPLY),
            facts=follow.facts,
            objects=_objects(plan, follow.source),
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            namespace=command.namespace,
            username=command.username,
            operation=command.operation,
            grant=grant,
            command=base64.b64encode(body).decode(),
            encoding=headers.get(envelopes.CONTENT_ENCODING, ""),
            since=datetime.now(timezone.utc),
        )
        await self.records.put(following_key(command.cluster, follow.source), record)

    async def _renew(self, command: Command, plan: Plan) -> None:
        """The record with the facts that count now; one that was replaced meanwhile stays."""
        follow = plan.follow[0]
        stored = await self._stored(command.cluster, follow.source)
        revision = followed_revision(command.operation)
        if stored is None or stored[1] != revision:
            return
        record = stored[0].model_copy(
            update={
                "facts": follow.facts,
                "renewed_by": command.operation,
                "objects": sorted({*stored[0].objects, *_objects(plan, follow.source)}),
            }
        )
        try:
            key = following_key(command.cluster, follow.source)
            await self.records.update(key, record, revision=revision)
        except RevisionConflict:
            log.info("following_superseded", source=follow.source)

    async def _end(self, cluster: str, sources: Sequence[str]) -> set[str]:
        """Returns the keys of those that were followed. They are looked up first: most never
        were."""
        if not sources:
            return set()
        bucket = self.records.bucket
        ended = {following_key(cluster, source) for source in sources}
        found = ended & await bucket.keys_among(ended, within=f"{cluster}.>")
        await asyncio.gather(*(bucket.delete(key) for key in found))
        return found

    async def _are_over(self, keys: Collection[str], command: Command) -> None:
        """Waits until no following of these records is carried out; none begins any more."""
        bucket = self.leases.bucket
        while True:
            found = await asyncio.gather(*(bucket.get(_lease_of(key)) for key in keys))
            if not any(found):
                return
            if command.deadline <= datetime.now(timezone.utc):
                raise DeadlineExpired("its sources are being translated again without an end")
            await asyncio.sleep(_PAUSE_FOR_A_FOLLOWING_S)

    async def _stored(self, cluster: str, source: str) -> tuple[Followed, int] | None:
        try:
            return await self.records.get(following_key(cluster, source))
        except ValueError:
            return None  # of another version of ours: it is followed again when it is sent anew


# --- what a following may bring ------------------------------------------------------------------


def _meant(stored: tuple[Followed, int] | None, command: Command, source: str) -> Followed:
    """The record, which a following is of or has written: a worker may have died since. Raises
    `Superseded` when it is another's."""
    if stored is not None:
        record, revision = stored
        if revision == followed_revision(command.operation):
            return record
        if record.renewed_by == command.operation:
            return record
    raise Superseded(f"{source[:160]} was sent anew or deleted since")


def _lease_of(key: str) -> str:
    """Held by the following of a record while it is carried out."""
    return f"mesh.follow.{key}"


def _same_grant(record: Followed, command: Command) -> None:
    granted = record.grant.claimed()
    if command.grant != record.grant or granted.cluster != command.cluster:
        raise GrantRefused(f"{record.source[:160]} was sent by another operation")
    if not record.operation.startswith(followed_operation(command.operation)):
        raise GrantRefused(f"operation {command.operation[:128]} follows another one")
    if command.namespace != granted.namespace:
        raise GrantRefused(f"{record.source[:160]} was sent for another namespace")


def _judge_step(step: Step, record: Followed) -> None:
    if step.kind is not StepKind.MANIFEST or step.is_deletion:
        raise GrantRefused("a following writes objects of a mesh, and nothing else")
    for obj in step.objects:
        if not (_is_made_of(obj, record) or _is_shared_denial(obj, record)):
            raise GrantRefused(f"{_named(obj)} is not made of {record.source[:160]}")
    for obj in step.obsolete:
        if not _is_made_of(obj, record):
            raise GrantRefused(f"{_named(obj)} was not made of {record.source[:160]}")


def _is_made_of(obj: KubeObject, record: Followed) -> bool:
    return (
        annotations_of(obj).get(TRANSLATED_FROM) == record.source
        and _is_in_place(obj, record)
        and all(_is_of_services(host, record) for host in _hosts(obj))
    )


def _is_shared_denial(obj: KubeObject, record: Followed) -> bool:
    """A policy of all sources of a namespace, which allows nothing."""
    origin = annotations_of(obj).get(TRANSLATED_FROM, "")
    kind = record.source.partition(" ")[0]
    spec = obj.get("spec") or {}
    return (
        origin == f"{kind} {Ref.of(obj).namespace}/*"
        and Ref.of(obj).kind == "AuthorizationPolicy"
        and not spec.keys() - {"selector"}
        and _is_in_place(obj, record)
    )


def _is_in_place(obj: KubeObject, record: Followed) -> bool:
    """Whether an object is of a kind that sources become, where the source may have some."""
    ref = Ref.of(obj)
    group, kind = ref.group_kind
    places = {fact.namespace for fact in record.facts if fact.kind in (SERVICE, ACCOUNT)}
    if f"{group}/{kind}" not in MADE_KINDS or ref.namespace not in places:
        return False
    known = named(group=group, kind=kind, namespace=ref.namespace, name=ref.name)
    # Otherwise its name has to begin with the source's, as all do.
    own = record.source.rpartition("/")[2]
    return known in record.objects or ref.name.startswith((own[:200], "smi-deny-by-default"))


def _is_of_services(host: str, record: Followed) -> bool:
    """Whether a host is one of the Services that the source names."""
    name, _, rest = host.partition(".")
    namespace = rest.partition(".")[0]
    return any(
        (fact.kind, fact.name) == (SERVICE, name) and namespace in ("", fact.namespace)
        for fact in record.facts
    )


def _hosts(value: object, key: str = "") -> Iterable[str]:
    """The hosts that a route names, wherever they stand in it; of policies there are none."""
    if isinstance(value, dict):
        if value.get("kind") == "Service" and isinstance(value.get("name"), str):
            namespace = value.get("namespace")
            yield f"{value['name']}.{namespace}" if namespace else str(value["name"])
        for name, inner in value.items():
            if name != "metadata":
                yield from _hosts(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _hosts(inner, key)
    elif key in ("host", "hosts", "sniHosts"):
        yield str(value)


def _objects(plan: Plan, source: str) -> list[str]:
    shared = f"{source.partition(' ')[0]} "
    found = []
    for obj in (obj for step in plan.steps for obj in step.objects):
        origin = annotations_of(obj).get(TRANSLATED_FROM, "")
        if origin == source or (origin.startswith(shared) and origin.endswith("/*")):
            group, kind = Ref.of(obj).group_kind
            ref = Ref.of(obj)
            found.append(named(group=group, kind=kind, namespace=ref.namespace, name=ref.name))
    return sorted(found)


def _facts(follows: Iterable[Follow]) -> str:
    names = dict.fromkeys(str(fact) for follow in follows for fact in follow.facts)
    return ", ".join(list(names)[:20])


def _named(obj: KubeObject) -> str:
    return str(Ref.of(obj))[:160]
