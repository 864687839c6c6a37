"""What an operation applied, kept object by object and forgotten in time."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import orjson
import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.intents import (
    DRIFT_IGNORE,
    AppliedObject,
    healing_id,
    heals,
    is_healing,
    key_of,
    packed,
    unpacked,
)
from services.chassis.bus.records import Bucket, Entry
from services.chassis.errors import (
    BusUnavailable,
    ClusterForbidden,
    InvalidMessage,
    MeshbusError,
    ObjectNotFound,
)
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Command
from services.lifecycle.manifests.objects import PlannedObject
from services.lifecycle.manifests.records import Ledger

FIELDS: dict[str, Any] = {"f:data": {"f:a": {}}}
CLUSTER = "c1"


@dataclass(frozen=True)
class Store(Bucket):
    """The bucket, in memory; like it, it lists keys that were forgotten."""

    bus: Bus = field(default=cast("Bus", None))
    name: str = "intents"
    values: dict[str, bytes | None] = field(default_factory=dict)
    headers: dict[str, Mapping[str, str]] = field(default_factory=dict)
    listings: list[str] = field(default_factory=list)

    async def get(self, key: str) -> Entry | None:
        value = self.values.get(key)
        return Entry(value, 1, self.headers.get(key, {})) if value is not None else None

    async def get_all(self, keys: Collection[str]) -> dict[str, Entry]:
        return {key: entry for key in keys if (entry := await self.get(key)) is not None}

    async def put(
        self, key: str, value: bytes, *, headers: Mapping[str, str] | None = None, **_: Any
    ) -> int:
        self.values[key] = value
        self.headers[key] = headers or {}
        return 1

    async def delete(self, key: str, *, revision: int | None = None, expires: bool = False) -> None:
        self.values[key] = None

    async def keys(self, *, matching: str = ">") -> list[str]:
        self.listings.append(matching)
        pattern = matching.replace(".", r"\.").replace("*", r"[^.]+").replace(">", ".+")
        return sorted(key for key in self.values if re.fullmatch(pattern, key))

    @property
    def kept(self) -> set[str]:
        """Names of what is kept."""
        return {unpacked(value).name for value in self.values.values() if value is not None}


def planned(
    name: str,
    *,
    api_version: str = "v1",
    kind: str = "ConfigMap",
    namespace: str = "n",
    **metadata: Any,
) -> PlannedObject:
    own = {"name": name, **({"namespace": namespace} if namespace else {}), **metadata}
    return PlannedObject.of(
        {"apiVersion": api_version, "kind": kind, "metadata": own, "data": {"a": "1"}}
    )


def answer(one: PlannedObject, *, uid: str = "u1", fields: Any = None) -> KubeObject:
    """What the API server makes of it."""
    obj: KubeObject = orjson.loads(one.body)
    obj["metadata"] |= {
        "uid": uid,
        "resourceVersion": "7",
        "generation": 2,
        "managedFields": [
            {"manager": "meshbus", "operation": "Update", "time": "t0", "fieldsV1": {"f:x": {}}},
            {
                "manager": "meshbus",
                "operation": "Apply",
                "time": "t1",
                "fieldsV1": FIELDS if fields is None else fields,
            },
        ],
    }
    return obj


def ledger(store: Store, *, operation: str = "op-1", kind: str = "custom") -> Ledger:
    command = Command(operation=operation, kind=kind, cluster=CLUSTER, username="ann")
    return Ledger(store, command)


async def keep(store: Store, *objects: PlannedObject, operation: str = "op-1") -> None:
    book = ledger(store, operation=operation)
    for one in objects:
        book.applied(one, answer(one))
    await book.settle()


def key(one: PlannedObject) -> str:
    return key_of(
        CLUSTER,
        kind=f"{one.ref.group}/{one.ref.kind}",
        namespace=one.ref.namespace,
        name=one.ref.name,
    )


async def kept(store: Store, one: PlannedObject) -> AppliedObject:
    value = store.values[key(one)]
    assert value is not None
    return unpacked(value)


async def test_a_record_has_what_drift_is_measured_by() -> None:
    store, one = Store(), planned("a", annotations={"meshbus.io/drift": "heal"})
    await keep(store, one)
    record = await kept(store, one)
    assert record.object == orjson.loads(one.body)
    assert (record.kind, record.namespace, record.name) == ("/ConfigMap", "n", "a")
    assert (record.uid, record.resource_version, record.generation) == ("u1", "7", 2)
    assert (record.fields, record.time) == (FIELDS, "t1")
    assert (record.operation, record.operation_kind, record.username) == ("op-1", "custom", "ann")
    assert (record.revision, record.version) == ("", "")
    assert (record.mode, record.ignored) == ("heal", [])


async def test_what_the_mesh_s_labels_and_the_annotations_say() -> None:
    store = Store()
    labels = {
        "operator.istio.io/component": "Pilot",
        "istio.io/rev": "canary",
        "operator.istio.io/version": "1.31.0",
    }
    notes = {"meshbus.io/drift": "sometimes", "meshbus.io/drift-ignore": "spec.a, spec.b[*],"}
    one = planned("a", labels=labels, annotations=notes)
    await keep(store, one)
    record = await kept(store, one)
    assert (record.revision, record.version) == ("canary", "1.31.0")
    assert (record.mode, record.ignored) == ("", ["spec.a", "spec.b[*]"])


async def test_secrets_are_not_kept() -> None:
    store = Store()
    await keep(store, planned("s", kind="Secret"))
    assert store.values == {}


async def test_what_is_proven_keeps_its_record() -> None:
    store, old, new = Store(), planned("old"), planned("new")
    await keep(store, old)
    book = ledger(store, operation="op-2")
    live = {one.ref: answer(one) for one in (old, new)}
    assert await book.proven([old, new], live) == {old.ref}
    book.applied(new, answer(new))
    await book.settle()
    assert (await kept(store, old)).operation == "op-1"
    assert (await kept(store, new)).operation == "op-2"


async def test_a_record_that_cannot_be_read_proves_nothing() -> None:
    store, one = Store(), planned("a")
    store.values[key(one)] = b"{}"
    assert await ledger(store).proven([one], {one.ref: answer(one)}) == frozenset()


async def test_settling_twice_writes_once() -> None:
    store, one = Store(), planned("a")
    book = ledger(store)
    book.applied(one, answer(one))
    await book.settle()
    store.values.clear()
    await book.settle()
    assert store.values == {}


async def test_a_deletion_forgets_only_what_it_deletes() -> None:
    store, mine, other = Store(), planned("mine"), planned("other")
    await keep(store, mine, other)
    unknown = planned("unknown")
    await ledger(store).forget([mine.ref, unknown.ref], kinds={})
    assert store.kept == {"other"}
    # Of what is not kept no mark is left either.
    assert key(unknown) not in store.values


async def test_an_object_that_its_own_operation_deletes_is_not_kept() -> None:
    store, one = Store(), planned("a")
    book = ledger(store)
    book.applied(one, answer(one))
    await book.forget([one.ref], kinds={})
    await book.settle()
    assert store.kept == set()


async def test_a_namespace_takes_along_what_is_in_it() -> None:
    store = Store()
    space = planned("n", kind="Namespace", namespace="")
    await keep(store, space, planned("in"), planned("out", namespace="n2"))
    await ledger(store).forget([space.ref], kinds={})
    assert store.kept == {"out"}


async def test_a_definition_takes_along_what_is_of_its_kind() -> None:
    store = Store()
    definition = planned(
        "virtualservices.networking.istio.io",
        api_version="apiextensions.k8s.io/v1",
        kind="CustomResourceDefinition",
        namespace="",
    )
    group = "networking.istio.io"
    route = planned("route", api_version=f"{group}/v1beta1", kind="VirtualService")
    gateway = planned("gateway", api_version=f"{group}/v1", kind="Gateway")
    await keep(store, definition, route, gateway)
    kinds = {definition.ref: f"{group}/VirtualService"}
    await ledger(store).forget([definition.ref], kinds=kinds)
    assert store.kept == {"gateway"}


async def test_nothing_to_forget_asks_nothing() -> None:
    store = Store()
    await ledger(store).forget([], kinds={})
    assert store.listings == []


async def test_another_cluster_s_records_are_left_alone() -> None:
    store, one = Store(), planned("a")
    command = Command(operation="op", kind="custom", cluster="c2")
    other = Ledger(store, command)
    other.applied(one, answer(one))
    await other.settle()
    await ledger(store).forget([Ref("v1", "Namespace", "", "n"), one.ref], kinds={})
    assert store.kept == {"a"}


async def test_what_is_put_back_stays_the_same_intent() -> None:
    store, one = Store(), planned("a", annotations={DRIFT_IGNORE: "data.a"})
    await keep(store, one)
    before = await kept(store, one)
    healing = healing_id(before, number="1")
    assert is_healing(healing)
    book = ledger(store, operation=healing, kind="manifest")
    # A repair may leave out what others hold by right, and says nothing of its own.
    more = PlannedObject.of({**orjson.loads(one.body), "data": {"a": "2"}})
    assert await book.still_intended([more]) == []
    less = PlannedObject.of({**orjson.loads(one.body), "data": {}})
    assert await book.still_intended([less]) == [less]
    book.applied(less, answer(less, uid="u2", fields={"f:y": {}}))
    await book.settle()
    after = await kept(store, one)
    assert (after.operation, after.operation_kind) == ("op-1", "custom")
    assert after.object == before.object
    assert (after.uid, after.fields) == ("u2", {"f:y": {}})
    # What was sent is another text: a repeat of the first one has to send it.
    assert await book.proven([one], {one.ref: answer(one, uid="u2")}) == frozenset()


async def test_a_late_repair_restores_nothing_that_is_not_wanted_any_more() -> None:
    store, one, gone = Store(), planned("a"), planned("gone")
    await keep(store, one)
    healing = healing_id(await kept(store, one), number="1")
    await keep(store, one, operation="op-2")
    assert not heals(healing, await kept(store, one))
    assert await ledger(store, operation=healing).still_intended([one, gone]) == []


async def test_relabelling_a_namespace_changes_its_intent() -> None:
    store = Store()
    labels = {"istio-injection": "enabled", "team": "a"}
    one = planned("n", kind="Namespace", namespace="", labels=labels)
    await keep(store, one)
    book = ledger(store, operation="label")
    changes: dict[str, str | None] = {"istio-injection": None, "istio.io/rev": "canary"}

    async def write() -> KubeObject:
        # Nothing is told of a change that is under way.
        assert store.kept == set()
        return answer(one, fields={"f:z": {}})

    assert await book.relabel(one.ref, changes, write) == answer(one, fields={"f:z": {}})
    after = await kept(store, one)
    assert after.object["metadata"]["labels"] == {"team": "a"}
    assert after.fields == {"f:z": {}}
    assert after.operation == "op-1"
    assert await book.proven([one], {one.ref: answer(one)}) == frozenset()
    before = dict(store.values)
    await book.relabel(Ref("v1", "Namespace", "", "unknown"), changes, write=partial(later, one))
    assert store.values == before


async def later(one: PlannedObject) -> KubeObject:
    return answer(one)


@pytest.mark.parametrize(
    ("error", "kept_names"),
    [(ClusterForbidden("no"), {"n"}), (ObjectNotFound("gone"), set[str]())],
    ids=["refused", "gone"],
)
async def test_a_relabelling_that_fails_leaves_the_record(
    error: MeshbusError, kept_names: set[str]
) -> None:
    store, one = Store(), planned("n", kind="Namespace", namespace="")
    await keep(store, one)

    async def write() -> KubeObject:
        raise error

    with pytest.raises(type(error)):
        await ledger(store).relabel(one.ref, {"istio-injection": "enabled"}, write)
    assert store.kept == kept_names


@pytest.mark.parametrize("size", [10, 200_000])
def test_packed_and_unpacked(size: int) -> None:
    record = AppliedObject(
        kind="/ConfigMap", namespace="n", name="a", object={"data": "x" * size}, operation="op"
    )
    value = packed(record, body=orjson.dumps(record.object))
    assert len(value) < 3000
    assert unpacked(value) == record


@pytest.mark.parametrize(
    "value", [b"", b"{", b"{}", b"x" * 9, zlib.compress(b"[]"), zlib.compress(b"{")]
)
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidMessage):
        unpacked(value)


def test_keys_are_safe_subjects() -> None:
    for kind, namespace, name in (
        ("/Namespace", "", "a.b*>c"),
        ("apps/Deployment", "istio-system", "x" * 253),
    ):
        text = key_of("c1", kind=kind, namespace=namespace, name=name)
        assert len(text.split(".")) == 5
        assert not set(text) & set(" *>\t")


def test_keys_tell_objects_apart() -> None:
    names = [
        ("/ConfigMap", "a", "b"),
        ("/ConfigMap", "", "b"),
        ("/Secret", "a", "b"),
        ("apps/ConfigMap", "a", "b"),
        ("/ConfigMap", "a", "c"),
    ]
    keys = {key_of("c1", kind=kind, namespace=place, name=name) for kind, place, name in names}
    assert len(keys) == len(names)


@dataclass(frozen=True)
class Frail(Store):
    """The bucket while the bus is away."""

    away: list[bool] = field(default_factory=lambda: [True])

    async def put(self, key: str, value: bytes, **options: Any) -> int:
        if self.away:
            raise BusUnavailable("writing did not reach NATS")
        return await super().put(key, value, **options)


async def test_what_could_not_be_kept_meanwhile_is_kept_later() -> None:
    store = Frail()
    kept = ledger(store)
    first, second = planned("first"), planned("second")
    kept.applied(first, answer(first))
    await kept.settle_meanwhile()
    assert store.kept == set()
    kept.applied(second, answer(second))
    store.away.clear()
    await kept.settle()
    assert store.kept == {"first", "second"}
