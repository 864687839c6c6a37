"""Accepting operations: claim the id, store the credentials, publish, answer.

The order makes a crash harmless. The request's record comes first and says what the id stands for;
a client that got no answer sends the same id again, and whatever part of it no worker has recorded
is published again. A copy does no harm: the stream drops it by its message id, the cluster's slot
refuses it as long as the first one is queued or running, and after that the worker's record
`ops/<operation>.<cluster>` says that there is nothing left to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

import orjson
import structlog

from services.chassis.bus import subjects
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.publishing import JUST_ENDED, LaidOut, Publisher
from services.chassis.bus.records import Records, RevisionConflict
from services.chassis.bus.streams import REGIONAL
from services.chassis.errors import (
    BusUnavailable,
    ClusterBusy,
    MeshbusError,
    NoCluster,
    OperationReused,
    RequestError,
)
from services.chassis.granting import EXPIRY_MARGIN, Signer
from services.chassis.messages import Command, OperationRecord, RequestRecord
from services.chassis.messages.grants import digest_of
from services.chassis.policy import LOCAL, Identity, Policy, require_operation
from services.chassis.reading.aside import INLINE_CHARACTERS, read_aside
from services.chassis.regions import Regions
from services.chassis.telemetry import redaction
from services.gateway.background import Background
from services.gateway.catalogs import Catalogs, Offer
from services.gateway.deadlines import Deadlines
from services.gateway.intake import Intake, Target
from services.gateway.notices import Notices, Part, parts_of
from services.gateway.outcomes import Ended, Outcomes
from services.gateway.quotas import Counted, Quotas
from services.gateway.wire import OperationRequest

_WITHIN = timedelta(seconds=5)
# Clients act on an operation's last event at once; its slot is free some milliseconds later.
_TRIES_FOR_A_SLOT = 60
_PAUSE_FOR_A_SLOT_S = 0.05
# Asking whether a worker is there must not compete with the answer to the caller.
_PATIENCE_WITH_WORKERS_S = 0.2
_ANSWERED_S = 0.001
_SIGNING_IS_LIKE = 1024
"""Characters of a body that take as long as a signature."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """Which regions' workers a command goes to; "" stands for those of none."""

    service: str
    queue: str = ""
    """Those who take it."""
    lifecycle: str = ""
    """Those to whom it is handed on, or a change that is made of it."""

    @property
    def region(self) -> str:
        """The one that it waits for."""
        return self.queue if self.service in REGIONAL else self.lifecycle

    def again(self, region: str) -> Way:
        """The way of a command that was queued for `region` before."""
        if self.service not in REGIONAL:
            return replace(self, lifecycle=region)
        handed_on = self.lifecycle if self.service != "lifecycle" else region
        return replace(self, queue=region, lifecycle=handed_on)


@dataclass(frozen=True, slots=True)
class _Accepting:
    """A request on its way in."""

    operation: str
    request: OperationRequest
    offer: Offer
    targets: Sequence[Target]
    identity: Identity
    """Who asks; `request.username` is only what the client says."""
    namespaces: Mapping[str, tuple[str, ...]]
    """By cluster: where the policy allows it."""
    ways: Mapping[str, Way]
    """By cluster, of those that are in a region."""

    def way(self, cluster: str) -> Way:
        return self.ways.get(cluster) or Way(self.offer.service)

    @property
    def content(self) -> bytes:
        """What tells requests apart; credentials do not count, they may be renewed.

        Of a long body it is the digest: nobody else runs while some MiB are written as JSON.
        """
        body = self.request.body
        return self._content(body if self.request.size <= INLINE_CHARACTERS else digest_of(body))

    @property
    def former_content(self) -> bytes:
        """The same as it was before: with the body, however long it is."""
        return self._content(self.request.body)

    def _content(self, body: str) -> bytes:
        request = self.request
        clusters = sorted(target.cluster for target in self.targets)
        asked = [
            request.kind,
            request.namespace,
            body,
            request.verb,
            request.version,
            clusters,
            # Left out where nobody is told apart, as in records from before identities.
            *([] if self.identity == LOCAL else [self.identity.name]),
        ]
        return orjson.dumps(asked)

    def record(self, deadline: datetime, *, fingerprint: str) -> RequestRecord:
        """The request's record, as `ops` keeps it."""
        return RequestRecord(
            operation=self.operation,
            fingerprint=fingerprint,
            kind=self.request.kind,
            clusters=[target.cluster for target in self.targets],
            cluster_names={target.cluster: target.name for target in self.targets},
            service=self.offer.service,
            regions={cluster: way.region for cluster, way in self.ways.items() if way.region},
            identity=self.identity.name,
            verb=self.request.verb,
            namespace=self.request.namespace,
            version=self.request.version,
            has_body=bool(self.request.body),
            deadline=deadline,
            may_take_s=self.offer.operation.may_take_s,
        )


@dataclass(frozen=True, slots=True)
class _Claim:
    """An id that stands for a request, and the clusters that it still has to be published for."""

    record: RequestRecord
    deadline: datetime
    targets: Sequence[Target]
    is_repeat: bool
    commands: Mapping[str, LaidOut | MeshbusError]
    """By cluster: what is published there, or why nothing can be."""


@dataclass(slots=True, kw_only=True)
class Operations:
    """Takes operations and hands them to the workers of the services that offer them."""

    catalogs: Catalogs
    intake: Intake
    records: Records[RequestRecord]
    sealer: Sealer
    signer: Signer
    publisher: Publisher
    notices: Notices
    deadlines: Deadlines
    background: Background
    outcomes: Outcomes
    is_attended: Callable[[str, str], Awaitable[bool]]
    """Whether a worker of the service is connected, of the region or of none."""
    regions: Regions
    policy: Callable[[], Policy]
    quotas: Quotas
    deadline: timedelta
    now: Callable[[], datetime]
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """One call at a time for each id: a double click must not undo what its twin began. A lock
    lives as long as a call holds it or waits for it."""

    async def apply(
        self,
        request: OperationRequest,
        kubeconfigs: Sequence[str],
        *,
        identity: Identity,
        remembered: Target | None,
        registered: Sequence[Target] = (),
    ) -> str:
        """Accepts the operation and returns its id; raises when it will run on no cluster.

        With `registered` it works on those clusters, with the credentials that lifecycle has.
        `NotPermitted` when the policy refuses it on one of its clusters: it is one request.
        """
        offer = await self.catalogs.find(request.kind)
        targets = registered or await self._targets(request, kubeconfigs, remembered)
        namespaces = {
            target.cluster: require_operation(
                self.policy(),
                identity,
                kind=request.kind,
                verb=request.verb,
                cluster=target.cluster,
                namespace=_reach(request, offer),
            )
            for target in targets
        }
        operation = request.operation or str(uuid.uuid4())
        ways = await self._ways(offer.service, targets)
        accepting = _Accepting(operation, request, offer, targets, identity, namespaces, ways)
        counted = await self._admitted(accepting)
        try:
            # From here on a client that leaves must not leave half an operation behind.
            waits_for = await self.background.detached("accept", self._accept(accepting))
        except MeshbusError:
            self._uncount(counted)
            raise
        # What a repeat finds begun already has perhaps told its end.
        self._uncount(part for part in counted if part[1] not in waits_for)
        return operation

    async def _ways(self, service: str, targets: Sequence[Target]) -> dict[str, Way]:
        """Where commands for clusters with a region go; nothing is asked for others."""
        found = {}
        for target in targets:
            if target.region:
                queue = await self.regions.serving(service, target.region)
                lifecycle = await self.regions.serving("lifecycle", target.region)
                found[target.cluster] = Way(service, queue, lifecycle)
        return found

    def _uncount(self, counted: Iterable[Counted]) -> None:
        for part in counted:
            self.quotas.release(*part)

    async def _admitted(self, accepting: _Accepting) -> list[Counted]:
        """Counts the operation among what waits for the identity; raises `QuotaExceeded`."""
        size = accepting.request.size
        return await self.quotas.admit(
            accepting.identity.name,
            accepting.operation,
            {t.cluster: size + len(t.text.encode()) for t in accepting.targets},
            until=self.now() + self._kept(accepting),
        )

    async def carried_out(
        self,
        request: OperationRequest,
        kubeconfigs: Sequence[str],
        *,
        identity: Identity,
        remembered: Target | None,
        within: timedelta,
    ) -> Ended:
        """Accepts the operation and waits for its end on all clusters, for `within` at most."""
        targets = await self._targets(request, kubeconfigs, remembered)
        clusters = {target.cluster: target.name for target in targets}
        async with self.outcomes.followed(request.operation) as events:
            await self.apply(request, kubeconfigs, identity=identity, remembered=remembered)
            finals = await self.outcomes.collect(
                events, request.operation, clusters=clusters, within=within
            )
        return Ended(finals, clusters)

    async def _targets(
        self, request: OperationRequest, kubeconfigs: Sequence[str], remembered: Target | None
    ) -> Sequence[Target]:
        targets = await self.intake.targets(kubeconfigs)
        if not targets and remembered is not None:
            targets = [remembered]
        if not targets:
            raise NoCluster(f"the operation {request.kind} came without a cluster")
        return targets

    async def _accept(self, accepting: _Accepting) -> set[str]:
        """Returns the clusters that a command was queued for."""
        secrets = [secret for target in accepting.targets for secret in target.secrets]
        with redaction.registered(secrets):
            async with self._turns.setdefault(accepting.operation, asyncio.Lock()):
                claim = await self._claim(accepting)
                refused = await self._publish_all(accepting, claim)
        self.background.start("follow-up", self._follow_up(accepting, claim, refused))
        return {target.cluster for target in claim.targets}

    # --- the claim ------------------------------------------------------------------------------

    async def _claim(self, accepting: _Accepting) -> _Claim:
        """Makes the id stand for this request; its credentials are sealed and its commands laid out
        meanwhile."""
        deadline = self.now() + self.deadline
        fingerprint = await read_aside(
            lambda: self.signer.fingerprint(accepting.content), size=accepting.request.size
        )
        record = accepting.record(deadline, fingerprint=fingerprint)
        storing = asyncio.gather(
            self._create(record),
            *(self._seal(accepting, target) for target in accepting.targets),
            return_exceptions=True,
        )
        # Once for each of them to begin, and once for what they send to leave.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        commands = await self._laid_out(accepting, accepting.targets, deadline)
        outcomes = await storing
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, RevisionConflict):
                raise outcome
        sealed = {t.cluster for t, new in zip(accepting.targets, outcomes[1:], strict=True) if new}
        if not isinstance(outcomes[0], RevisionConflict):
            await self._seal_again(
                accepting, [t for t in accepting.targets if t.cluster not in sealed]
            )
            return _Claim(record, deadline, accepting.targets, is_repeat=False, commands=commands)
        return await self._repeated(accepting, deadline, sealed=sealed)

    async def _create(self, record: RequestRecord) -> None:
        await self.records.create(subjects.operation_key(record.operation), record)

    async def _seal(self, accepting: _Accepting, target: Target) -> bool:
        """Never over an earlier one: an id that is used twice must not swap a credential."""
        if target.config is None:
            return True
        return await self.sealer.create(
            subjects.operation_credential(accepting.operation, target.cluster),
            target.text,
            ttl=self._kept(accepting),
        )

    async def _seal_again(self, accepting: _Accepting, targets: Sequence[Target]) -> None:
        """Replaces credentials that an earlier, refused use of the same id left behind."""
        await asyncio.gather(
            *(
                self.sealer.put(
                    subjects.operation_credential(accepting.operation, target.cluster),
                    target.text,
                    ttl=self._kept(accepting),
                )
                for target in targets
            )
        )

    def _kept(self, accepting: _Accepting) -> timedelta:
        """How long a credential is kept: as long as the operation may take, and its end."""
        may_take = timedelta(seconds=accepting.offer.operation.may_take_s)
        return self.deadline + may_take + EXPIRY_MARGIN

    async def _repeated(
        self, accepting: _Accepting, deadline: datetime, *, sealed: set[str]
    ) -> _Claim:
        """The id was used before: for the same request, or it is refused."""
        operation = accepting.operation
        stored = await self.records.get(subjects.operation_key(operation))
        if stored is None:
            raise BusUnavailable(f"the record of operation {operation[:64]} changed meanwhile")
        is_same = await read_aside(
            lambda: self._is_of(stored[0], accepting), size=accepting.request.size
        )
        if not is_same:
            await self._unseal(operation, sealed)
            raise OperationReused(f"operation {operation} stands for another request")
        begun = await asyncio.gather(
            *(
                self.records.bucket.get(subjects.operation_key(operation, target.cluster))
                for target in accepting.targets
            )
        )
        pairs = list(zip(accepting.targets, begun, strict=True))
        done = {target.cluster for target, entry in pairs if entry is not None}
        await self._unseal(operation, sealed & done)
        open_targets = [target for target, entry in pairs if entry is None]
        deadline = stored[0].deadline or deadline
        # Its first command may lie there still, wherever the cluster is now.
        kept = {
            target.cluster: accepting.way(target.cluster).again(
                stored[0].regions.get(target.cluster, "")
            )
            for target in accepting.targets
        }
        accepting = replace(accepting, ways=kept)
        commands = await self._laid_out(accepting, open_targets, deadline)
        return _Claim(stored[0], deadline, open_targets, is_repeat=True, commands=commands)

    def _is_of(self, record: RequestRecord, accepting: _Accepting) -> bool:
        """Whether a record is this request's; those from before have a hash without a key."""
        if record.fingerprint == self.signer.fingerprint(accepting.content):
            return True
        former = accepting.former_content
        plain = hashlib.sha256(former).hexdigest()
        return record.fingerprint in (self.signer.fingerprint(former), plain)

    # --- publishing -----------------------------------------------------------------------------

    async def _publish_all(self, accepting: _Accepting, claim: _Claim) -> list[str]:
        """One command for each cluster; returns the clusters that refused, unless all did."""
        outcomes = await asyncio.gather(
            *(self._publish(accepting, claim, target) for target in claim.targets),
            return_exceptions=True,
        )
        refused: dict[str, MeshbusError] = {}
        for target, outcome in zip(claim.targets, outcomes, strict=True):
            if isinstance(outcome, (ClusterBusy, RequestError)):
                refused[target.cluster] = outcome
            elif isinstance(outcome, BaseException):
                # The record stays: the same id, sent again, finishes what was begun.
                raise outcome
        if refused and len(refused) == len(accepting.targets):
            await self._undo(accepting)
            raise next(iter(refused.values()))
        await asyncio.gather(
            *(
                self.notices.refused(part, refused[part.cluster])
                for part in parts_of(claim.record)
                if part.cluster in refused
            )
        )
        await self._unseal(accepting.operation, set(refused))
        return list(refused)

    async def _laid_out(
        self, accepting: _Accepting, targets: Sequence[Target], deadline: datetime
    ) -> dict[str, LaidOut | MeshbusError]:
        """The commands by cluster. To sign, deflate and seal some MiB takes a tenth of a second,
        in which others are served."""

        def laid_out() -> dict[str, LaidOut | MeshbusError]:
            return {
                target.cluster: self._command(accepting, target, deadline) for target in targets
            }

        size = len(targets) * (accepting.request.size + _SIGNING_IS_LIKE)
        return await read_aside(laid_out, size=size)

    def _command(
        self, accepting: _Accepting, target: Target, deadline: datetime
    ) -> LaidOut | MeshbusError:
        """Or why there can be none."""
        who = accepting.identity
        command = self.signer.signed(
            _command(accepting, target, deadline),
            identity=who.name,
            groups=tuple(sorted(who.groups)),
            namespaces=accepting.namespaces[target.cluster],
        )
        offer = accepting.offer
        try:
            return self.publisher.laid_out(
                command,
                service=offer.service,
                slot=offer.operation.slot,
                region=accepting.way(target.cluster).queue,
            )
        except MeshbusError as error:
            return error

    async def _publish(self, accepting: _Accepting, claim: _Claim, target: Target) -> None:
        command = claim.commands[target.cluster]
        if isinstance(command, MeshbusError):
            raise command
        for left in reversed(range(_TRIES_FOR_A_SLOT)):
            try:
                await self.publisher.queued(*command, within=_WITHIN)
                return
            except ClusterBusy as busy:
                if busy.subject == accepting.operation:
                    return  # it is our own, from an earlier try
                if left == 0 or not await self._has_ended(busy.subject, target.cluster):
                    raise
                await asyncio.sleep(_PAUSE_FOR_A_SLOT_S)

    async def _has_ended(self, holder: str, cluster: str) -> bool:
        """Whether a slot's holder is done: its last event comes just before its slot is free."""
        if holder == JUST_ENDED:
            return True
        entry = await self.records.bucket.get(subjects.operation_key(holder, cluster))
        if entry is None:
            return False
        return OperationRecord.model_validate_json(entry.value).state.is_terminal

    async def _undo(self, accepting: _Accepting) -> None:
        """Removes the record and the credentials, so that a later try may use the id again."""
        await self.records.bucket.delete(subjects.operation_key(accepting.operation))
        await self._unseal(accepting.operation, {t.cluster for t in accepting.targets})

    async def _unseal(self, operation: str, clusters: set[str]) -> None:
        await asyncio.gather(
            *(
                self.sealer.bucket.delete(
                    subjects.operation_credential(operation, cluster), expires=True
                )
                for cluster in clusters
            )
        )

    # --- what does not hold the answer up -------------------------------------------------------

    async def _follow_up(self, accepting: _Accepting, claim: _Claim, refused: list[str]) -> None:
        """What the answer to the caller does not wait for."""
        await asyncio.sleep(_ANSWERED_S)
        self.deadlines.watch(claim.record)
        log.info(
            "operation_accepted",
            operation=accepting.operation,
            kind=accepting.request.kind,
            identity=accepting.identity.name,
            clusters=[target.cluster for target in accepting.targets],
            refused=len(refused),
            repeated=claim.is_repeat,
        )
        await self._announce_wait(claim, [t for t in claim.targets if t.cluster not in refused])

    async def _announce_wait(self, claim: _Claim, targets: Sequence[Target]) -> None:
        """Says that no worker is there, unless one has ended it meanwhile."""
        record = claim.record
        await asyncio.sleep(_PATIENCE_WITH_WORKERS_S)
        targets = [t for t in targets if self.quotas.counts(record.operation, t.cluster)]
        by_region: dict[str, list[Target]] = {}
        for target in targets:
            is_regional = record.service in REGIONAL
            region = record.regions.get(target.cluster, "") if is_regional else ""
            by_region.setdefault(region, []).append(target)
        for region, waiting in by_region.items():
            if await self.is_attended(record.service, region):
                continue
            part = Part(
                operation=record.operation,
                kind=record.kind,
                cluster=waiting[0].cluster,
                cluster_name=", ".join(target.name for target in waiting),
                region=region,
            )
            await self.notices.waiting(part, service=record.service, deadline=claim.deadline)


def _reach(request: OperationRequest, offer: Offer) -> str | None:
    """The namespace that the operation stays in; "" for one that may reach beyond it; None for one
    whose objects lifecycle judges by the grant.

    A body may name other namespaces, and the gateway does not know what it would read there.
    """
    if offer.operation.judges_objects:
        return None
    stays = offer.operation.stays_in_namespace and not request.body
    return request.namespace if stays else ""


def _credential(accepting: _Accepting, target: Target) -> str:
    """Its key; "" stands for the registered one."""
    if target.config is None:
        return ""
    return subjects.operation_credential(accepting.operation, target.cluster)


def _command(accepting: _Accepting, target: Target, deadline: datetime) -> Command:
    request = accepting.request
    return Command(
        operation=accepting.operation,
        kind=request.kind,
        verb=request.verb,
        cluster=target.cluster,
        cluster_name=target.name,
        namespace=request.namespace,
        username=request.username,
        version=request.version,
        body=request.body,
        region=accepting.way(target.cluster).lifecycle,
        credential=_credential(accepting, target),
        deadline=deadline,
        may_take_s=accepting.offer.operation.may_take_s,
    )
