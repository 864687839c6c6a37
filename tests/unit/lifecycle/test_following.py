"""What lifecycle keeps of a source, and what it takes for a new translation of it.

Plans are the translator's own; what somebody with its key, or with topology's, would make of them
is refused.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.records import Bucket, Entry, Records, RevisionConflict
from services.chassis.errors import GrantRefused, Superseded
from services.chassis.granting import Checker, Signer, generate_signing_keys
from services.chassis.kube.manifests import dump_manifest
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import (
    ClusterFacts,
    Command,
    Event,
    Follow,
    Followed,
    Plan,
    Step,
    Verb,
)
from services.chassis.messages.following import following_id, following_key
from services.chassis.operations.progress import Progress
from services.chassis.sealing import Keys
from services.lifecycle.authority import Authority
from services.lifecycle.manifests.following import Followings
from services.translator.manifests import run_custom
from tests.unit.translator.smi import samples
from tests.unit.translator.worlds import World

PUBLIC, SEED = generate_signing_keys()
SOURCE = "TrafficSplit.split.smi-spec.io shop/canary"
TARGET = "TrafficTarget.access.smi-spec.io shop/reach-api"
SERVED = {
    "networking.istio.io/VirtualService": ["v1"],
    "security.istio.io/AuthorizationPolicy": ["v1"],
}
Spoil = Callable[[Command], Command]


@dataclass(frozen=True)
class _Bus:
    keys: Keys = field(default_factory=Keys)


@dataclass(frozen=True)
class Store(Bucket):
    """A bucket in memory, whose revisions count on."""

    bus: Bus = field(default=cast("Bus", _Bus()))
    name: str = "following"
    values: dict[str, Entry] = field(default_factory=dict)
    revisions: Iterator[int] = field(default_factory=lambda: itertools.count(7))

    async def get(self, key: str) -> Entry | None:
        return self.values.get(key)

    async def put(self, key: str, value: bytes, **_: Any) -> int:
        revision = next(self.revisions)
        self.values[key] = Entry(value, revision)
        return revision

    async def create(self, key: str, value: bytes, *, ttl: timedelta | None = None) -> int:
        if key in self.values:
            raise RevisionConflict(key)
        return await self.put(key, value)

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        if self.values[key].revision != revision:
            raise RevisionConflict(key)
        return await self.put(key, value)

    async def delete(self, key: str, *, revision: int | None = None, expires: bool = False) -> None:
        self.values.pop(key, None)

    async def keys(self, *, matching: str = ">") -> list[str]:
        return [key for key in self.values if key.startswith(matching.removesuffix(">"))]


class Bed:
    """Lifecycle's half: what it keeps, and how it judges."""

    def __init__(self, *, is_registered: bool = True) -> None:
        self.store = Store()
        clusters = Store(values={"c1": Entry(b"{}", 1)} if is_registered else {})
        self.leases = Leases(Store(), "worker", timedelta(seconds=1))
        self.followings = Followings(Records(self.store, Followed), clusters, self.leases)
        self.authority = Authority(Checker.of(PUBLIC), cast(Bucket, None), self.followings)
        self.events: list[Event] = []

    async def event(self, event: Event) -> None:
        self.events.append(event)

    async def carried_out(self, command: Command) -> None:
        """Judged, and carried out by a plan without a step."""
        await self.authority.judge(command, "translator")
        async with self.turn(command):
            pass

    @asynccontextmanager
    async def turn(self, command: Command) -> AsyncIterator[None]:
        assert command.plan is not None
        progress = Progress(self.event, command, attempt=1, service="lifecycle")
        progress.start()
        try:
            fence = Fence(timedelta(minutes=1))
            async with self.followings.turn(command, command.plan, progress, fence):
                yield
        finally:
            await progress.close()

    def kept(self, source: str = SOURCE) -> tuple[Followed, int]:
        entry = self.store.values[following_key("c1", source)]
        return Followed.model_validate_json(entry.value), entry.revision


async def sent(
    *objects: KubeObject,
    facts: ClusterFacts,
    operation: str = "op",
    verb: Verb = Verb.APPLY,
) -> Command:
    """What the translator hands on for a request with a grant."""
    body = dump_manifest(list(objects))
    plan = await World(facts).plan(run_custom, body, verb=verb)
    command = Command(
        operation=operation, kind="custom", verb=verb, cluster="c1", namespace="shop", body=body
    )
    granted = Signer.of(SEED).signed(command, identity="ana")
    return granted.model_copy(update={"plan": plan, "body": "", "asked": body})


async def again(
    bed: Bed, *objects: KubeObject, facts: ClusterFacts, source: str = SOURCE
) -> Command:
    """What the translator hands on when topology has asked for a following."""
    record, revision = bed.kept(source)
    plan = await World(facts).plan(run_custom, dump_manifest(list(objects)))
    [follow] = [one for one in plan.follow if one.source == source]
    return Command(
        operation=following_id(record.operation, revision=revision, attempt="ab"),
        kind="follow",
        cluster="c1",
        namespace="shop",
        grant=record.grant,
        plan=plan.model_copy(update={"follow": [follow]}),
    )


def again_of(command: Command, *, attempt: str) -> Command:
    """The same as topology asks for it another time."""
    operation = command.operation.rpartition("-")[0]
    return command.model_copy(update={"operation": f"{operation}-{attempt}"})


def there(*names: str, workloads: Any = ()) -> ClusterFacts:
    found = [samples.service(name, samples.port(80)) for name in names]
    return samples.facts(services=found, served=SERVED, workloads=workloads)


ALL = there("web", "web-v1", "web-v2")
TARGETS = (samples.target(), samples.group(samples.match("all", "/x")))


async def test_a_source_is_kept_with_its_grant_and_followed_beyond_its_deadline() -> None:
    bed = Bed()
    await bed.carried_out(await sent(samples.split(), facts=there()))
    record, first = bed.kept()
    assert (record.operation, record.mode, record.namespace) == ("op", "apply", "shop")
    assert record.grant.claimed().identity == "ana"
    assert record.objects == ["networking.istio.io/VirtualService shop/canary-split"]
    command = await again(bed, samples.split(), facts=ALL)
    await bed.carried_out(command)
    renewed, second = bed.kept()
    assert second > first
    assert [bool(fact.digest) for fact in renewed.facts] == [True] * 4
    assert (renewed.grant, renewed.command) == (record.grant, record.command)
    # A worker that died after that is followed by another one with the same command.
    await bed.carried_out(command)
    assert bed.kept()[1] == second
    await bed.carried_out(await again(bed, samples.split(), facts=there("web")))
    with pytest.raises(Superseded, match="sent anew or deleted since"):
        await bed.authority.judge(command, "translator")


async def test_a_target_may_bring_policies_that_it_had_none_of() -> None:
    bed = Bed()
    await bed.carried_out(await sent(*TARGETS, facts=there()))
    facts = there(workloads=[samples.workload("api")])
    await bed.carried_out(await again(bed, *TARGETS, facts=facts, source=TARGET))
    record, _ = bed.kept(TARGET)
    assert len(record.objects) == 2


async def test_a_source_that_is_sent_anew_or_deleted_ends_the_former_following() -> None:
    bed = Bed()
    await bed.carried_out(await sent(samples.split(), facts=there()))
    late = await again(bed, samples.split(), facts=ALL)
    await bed.carried_out(await sent(samples.split(), facts=there(), operation="op-2"))
    with pytest.raises(Superseded):
        await bed.authority.judge(late, "translator")
    assert bed.kept()[0].operation == "op-2"
    gone = await sent(samples.split(), facts=there(), operation="op-3", verb=Verb.DELETE)
    await bed.carried_out(gone)
    assert bed.store.values == {}


@pytest.mark.parametrize("verb", Verb)
async def test_what_is_deleted_or_sent_anew_waits_for_a_following(verb: Verb) -> None:
    bed = Bed()
    await bed.carried_out(await sent(samples.split(), facts=there()))
    late = await again(bed, samples.split(), facts=ALL)
    newer = await sent(samples.split(), facts=there(), operation="op-2", verb=verb)
    async with bed.turn(late):
        waits = asyncio.create_task(bed.carried_out(newer))
        while bed.store.values:
            await asyncio.sleep(0.01)
        assert not waits.done()
        with pytest.raises(Superseded, match="sent anew or deleted since"):
            await bed.carried_out(again_of(late, attempt="cd"))
    await waits
    assert len(bed.store.values) == (verb is Verb.APPLY)
    with pytest.raises(Superseded, match="sent anew or deleted since"):
        async with bed.turn(late):
            raise AssertionError("it writes what the source was before")


async def test_one_following_of_a_source_is_carried_out_at_a_time() -> None:
    bed = Bed()
    await bed.carried_out(await sent(samples.split(), facts=there()))
    first = await again(bed, samples.split(), facts=ALL)
    second = again_of(first, attempt="cd")

    async def carried_out_in_turn() -> None:
        async with bed.turn(second):
            raise AssertionError("the first has translated the source anew")

    await bed.authority.judge(second, "translator")
    async with bed.turn(first):
        waits = asyncio.create_task(carried_out_in_turn())
        await asyncio.sleep(0.1)
        assert not waits.done()
    with pytest.raises(Superseded, match="sent anew or deleted since"):
        await waits


async def test_only_what_was_sent_is_kept() -> None:
    command = await sent(samples.split(), facts=there())
    assert command.plan is not None
    forged = command.plan.model_copy(
        update={"follow": [*command.plan.follow, Follow(source=f"{SOURCE}-2")]}
    )
    with pytest.raises(GrantRefused, match="nobody has sent"):
        await Bed().carried_out(command.model_copy(update={"plan": forged}))


async def test_nobody_watches_a_cluster_that_is_not_registered() -> None:
    bed = Bed(is_registered=False)
    await bed.carried_out(await sent(samples.split(), facts=there()))
    assert bed.store.values == {}
    [event] = bed.events
    assert event.summary.startswith("Not followed")
    assert "Service shop/web-v1" in event.details


async def test_a_cluster_that_is_forgotten_is_not_followed() -> None:
    bed = Bed()
    await bed.carried_out(await sent(samples.split(), facts=there()))
    await bed.followings.forget("c1")
    assert bed.store.values == {}


# ---- What is no translation of the source --------------------------------------------------------


def with_objects(change: Callable[[KubeObject], KubeObject]) -> Spoil:
    def spoiled(command: Command) -> Command:
        assert command.plan is not None
        [step] = command.plan.steps
        changed = step.model_copy(update={"objects": [change(obj) for obj in step.objects]})
        return command.model_copy(
            update={"plan": command.plan.model_copy(update={"steps": [changed]})}
        )

    return spoiled


def spoiled_plan(**fields: Any) -> Spoil:
    def spoiled(command: Command) -> Command:
        assert command.plan is not None
        return command.model_copy(update={"plan": command.plan.model_copy(update=fields)})

    return spoiled


def sharing(host: str) -> Callable[[KubeObject], KubeObject]:
    route = [{"destination": {"host": host}}]
    return lambda obj: {**obj, "spec": {**obj["spec"], "http": [{"route": route}]}}


def placed(**fields: str) -> Callable[[KubeObject], KubeObject]:
    return lambda obj: {**obj, "metadata": {**obj["metadata"], **fields}}


BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "canary-rights", "annotations": {"meshbus.io/translated-from": SOURCE}},
}
FORGED: dict[str, Spoil] = {
    "rights": with_objects(lambda _obj: BINDING),
    "another kind of the mesh": with_objects(lambda obj: {**obj, "kind": "Gateway"}),
    "another namespace": with_objects(placed(namespace="bank")),
    "another's object": with_objects(placed(name="payments")),
    "no source": with_objects(lambda obj: {**obj, "metadata": {"name": "a", "namespace": "shop"}}),
    "another Service's traffic": with_objects(
        lambda obj: {**obj, "spec": {**obj["spec"], "hosts": ["payments.shop.svc.cluster.local"]}}
    ),
    "traffic to another Service": with_objects(sharing("thief.shop.svc.cluster.local")),
    "traffic to another namespace": with_objects(sharing("web.thief.svc.cluster.local")),
    "traffic to the outside": with_objects(sharing("thief.example.org")),
    "a removal": spoiled_plan(
        steps=[Step(title="a step", obsolete=[placed(name="other")({"metadata": {}})])]
    ),
    "a deletion": spoiled_plan(steps=[Step(title="a step", is_deletion=True)]),
    "other facts": spoiled_plan(follow=[Follow(source=SOURCE, facts=[])]),
    "two sources": spoiled_plan(follow=[Follow(source=SOURCE), Follow(source=TARGET)]),
    "an end": spoiled_plan(ends=[SOURCE]),
    "no plan": lambda command: command.model_copy(update={"plan": None}),
    "another namespace's request": lambda c: c.model_copy(update={"namespace": "bank"}),
    "a credential": lambda c: c.model_copy(update={"credential": "operation.op.c1"}),
    "no grant": lambda c: c.model_copy(update={"grant": None}),
    "another revision": lambda c: c.model_copy(update={"operation": "op-follow-1-ab"}),
    "another operation": lambda c: c.model_copy(
        update={"operation": c.operation.replace("op-", "other-", 1)}
    ),
    "another cluster": lambda c: c.model_copy(update={"cluster": "c2"}),
}


@pytest.mark.parametrize("spoil", FORGED.values(), ids=FORGED)
async def test_what_is_no_translation_of_the_source_is_refused(spoil: Spoil) -> None:
    bed = Bed()
    await bed.carried_out(await sent(samples.split(), facts=there("web")))
    command = await again(bed, samples.split(), facts=ALL)
    await bed.authority.judge(command, "translator")
    with pytest.raises((GrantRefused, Superseded)):
        await bed.authority.judge(spoil(command), "translator")


async def test_a_policy_that_all_share_may_allow_nothing() -> None:
    bed = Bed()
    facts = there(workloads=[samples.workload("api")])
    await bed.carried_out(await sent(*TARGETS, facts=facts))
    command = await again(bed, *TARGETS, facts=facts, source=TARGET)
    await bed.authority.judge(command, "translator")

    def opened(obj: KubeObject) -> KubeObject:
        is_shared = obj["metadata"]["name"] == "smi-deny-by-default"
        return {**obj, "spec": {"rules": [{}]}} if is_shared else obj

    with pytest.raises(GrantRefused):
        await bed.authority.judge(with_objects(opened)(command), "translator")


async def test_what_is_only_to_be_told_is_not_applied() -> None:
    bed = Bed()
    split = samples.split()
    split["metadata"]["annotations"] = {"meshbus.io/follow": "report"}
    await bed.carried_out(await sent(split, facts=there("web")))
    command = await again(bed, split, facts=ALL)
    with pytest.raises(GrantRefused, match="only to be reported"):
        await bed.authority.judge(command, "translator")
    told = cast(Plan, command.plan).model_copy(update={"steps": []})
    await bed.carried_out(command.model_copy(update={"plan": told}))
