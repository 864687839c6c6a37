"""The proof that lets a repeat send nothing: every doubt means sending."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import orjson
import pytest

from deploy.local.households import Household
from services.chassis.bus.intents import (
    AppliedObject,
    Proof,
    concealed,
    key_of,
    packed,
    proof_headers,
)
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import Command
from services.chassis.sealing import Keys
from services.lifecycle.manifests.objects import PlannedObject
from services.lifecycle.manifests.records import Ledger
from tests.unit.lifecycle.samples import thing
from tests.unit.lifecycle.test_records import Store

LABELS = {"istio.io/rev": "default", "app": "istiod"}
ANNOTATIONS = {"note": "a"}
SENT = {
    **thing("Deployment", "istiod", LABELS, namespace="istio-system", annotations=ANNOTATIONS),
    "spec": {"replicas": 1},
}
PLANNED = PlannedObject.of(SENT)


def live(**metadata: Any) -> KubeObject:
    """The object as the server has it after the apply, with changes; None takes a field away."""
    obj = copy.deepcopy(SENT)
    filled = {"uid": "u-1", "resourceVersion": "10", "generation": 1, **metadata}
    obj["metadata"].update(filled)
    obj["metadata"] = {name: value for name, value in obj["metadata"].items() if value is not None}
    return obj


def record(**changed: Any) -> AppliedObject:
    fields = {"digest": PLANNED.digest, "uid": "u-1", "resource_version": "10", "generation": 1}
    names = {"kind": "apps/Deployment", "namespace": "istio-system", "name": "istiod"}
    return AppliedObject(**{**names, "object": SENT, "operation": "op", **fields, **changed})


PROVEN: dict[str, tuple[AppliedObject, KubeObject]] = {
    "untouched": (record(), live()),
    "only its status changed": (record(), live(resourceVersion="11")),
    "a foreign label added": (
        record(),
        live(resourceVersion="11", labels={**LABELS, "other": "x"}),
    ),
    "a foreign annotation added": (
        record(),
        live(resourceVersion="11", annotations={**ANNOTATIONS, "other": "x"}),
    ),
    "untouched and without a generation": (record(generation=0), live(generation=None)),
}

NOT_PROVEN: dict[str, tuple[AppliedObject | None, KubeObject | None]] = {
    "no intent": (None, live()),
    "no record": (None, live()),
    "not in the cluster": (record(), None),
    "neither": (None, None),
    "another text": (record(digest="other"), live()),
    "another object of the name": (record(), live(uid="u-2")),
    "another object, same version": (record(uid="u-0"), live()),
    "no UID": (record(), live(uid=None)),
    "changed spec": (record(), live(resourceVersion="11", generation=2)),
    "changed and changed back": (record(), live(resourceVersion="12", generation=3)),
    "generation lower than ours": (
        record(generation=5),
        live(resourceVersion="11", generation=4),
    ),
    "changed label": (
        record(),
        live(resourceVersion="11", labels={**LABELS, "app": "other"}),
    ),
    "removed label": (record(), live(resourceVersion="11", labels={"app": "istiod"})),
    "no label left": (record(), live(resourceVersion="11", labels=None)),
    "changed annotation": (
        record(),
        live(resourceVersion="11", annotations={"note": "b"}),
    ),
    "no annotation left": (record(), live(resourceVersion="11", annotations=None)),
    "changed and without a generation": (
        record(generation=0),
        live(resourceVersion="11", generation=None),
    ),
    "version gone from the metadata": (
        record(),
        live(resourceVersion=None, generation=None),
    ),
}


def stored(kept: AppliedObject, *, headers: bool) -> Store:
    """A bucket with this record; without `headers` as former versions wrote it."""
    store = Store()
    key = key_of("c1", kind=kept.kind, namespace=kept.namespace, name=kept.name)
    store.values[key] = packed(kept, body=orjson.dumps(kept.object))
    if headers:
        store.headers[key] = proof_headers(kept)
    return store


async def proven(
    planned: PlannedObject,
    known: AppliedObject | None,
    seen: KubeObject | None,
    *,
    headers: bool = True,
) -> bool:
    """Whether a ledger with this record takes the object for proven."""
    store = stored(known, headers=headers) if known is not None else Store()
    book = Ledger(store, Command(operation="op-2", kind="istio", cluster="c1"))
    refs = await book.proven([planned], {planned.ref: seen} if seen is not None else {})
    return refs == {planned.ref}


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "a former version's"])
@pytest.mark.parametrize("case", PROVEN)
async def test_proven(case: str, headers: bool) -> None:
    assert await proven(PLANNED, *PROVEN[case], headers=headers)


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "a former version's"])
@pytest.mark.parametrize("case", NOT_PROVEN)
async def test_not_proven(case: str, headers: bool) -> None:
    assert not await proven(PLANNED, *NOT_PROVEN[case], headers=headers)


async def test_a_record_is_not_read_where_its_proof_is_told() -> None:
    store = stored(record(), headers=True)
    store.values.update(dict.fromkeys(store.values, b"no record"))
    book = Ledger(store, Command(operation="op-2", kind="istio", cluster="c1"))
    assert await book.proven([PLANNED], {PLANNED.ref: live()}) == {PLANNED.ref}


async def test_an_object_of_another_namespace_is_another_object() -> None:
    other = copy.deepcopy(SENT)
    other["metadata"]["namespace"] = "mesh"
    assert not await proven(PlannedObject.of(other), record(), live())


@pytest.mark.parametrize("told", ["", "{", "7", "[]", '["u-1", "10", 1, "d", "", "later"]'])
async def test_a_proof_of_another_version_proves_nothing(told: str) -> None:
    store = stored(record(), headers=True)
    store.headers.update({key: {"Meshbus-Proof": told} for key in store.values})
    book = Ledger(store, Command(operation="op-2", kind="istio", cluster="c1"))
    assert await book.proven([PLANNED], {PLANNED.ref: live()}) == frozenset()


# ---- Records with hidden values -----------------------------------------------------------------


class Closed(Keys):
    """Keys by which nothing may be opened."""

    def opened(self, sealed: bytes) -> bytes:
        raise AssertionError("a record was opened")


SECRETIVE = {
    **thing("ConfigMap", "istio", namespace="istio-system"),
    "data": {"password": "p"},
}


async def is_proven_hidden(
    keys: Keys, *, planned: KubeObject, kept: AppliedObject, headers: bool = True
) -> bool:
    store, one = stored(kept, headers=headers), PlannedObject.of(planned)
    seen = copy.deepcopy(SECRETIVE)
    seen["metadata"] |= {"uid": "u-1", "resourceVersion": "10", "generation": 1}
    book = Ledger(store, Command(operation="op-2", kind="istio", cluster="c1"), keys=keys)
    return await book.proven([one], {one.ref: seen}) == {one.ref}


def hidden(household: Household) -> AppliedObject:
    digest = PlannedObject.of(SECRETIVE).digest
    whole = record(kind="/ConfigMap", name="istio", object=SECRETIVE, digest=digest)
    kept = concealed(whole, keys=household.keys("lifecycle"))
    assert kept.sealed
    return kept


def closed(keys: Keys) -> Keys:
    return Closed(keys.public, keys.private)


async def test_hidden_values_are_proven_without_opening_anything() -> None:
    household = Household()
    kept, keys = hidden(household), closed(household.keys("lifecycle"))
    changed = {**SECRETIVE, "data": {"password": "q"}}
    for headers in (True, False):
        assert await is_proven_hidden(keys, planned=SECRETIVE, kept=kept, headers=headers)
        assert not await is_proven_hidden(keys, planned=changed, kept=kept, headers=headers)


async def test_a_mark_lasts_as_long_as_the_key_it_was_made_by() -> None:
    household = Household()
    kept = hidden(household)
    household.renew("lifecycle")
    keys = household.keys("lifecycle")
    assert await is_proven_hidden(closed(keys), planned=SECRETIVE, kept=kept)
    household.forget("lifecycle")
    assert not await is_proven_hidden(household.keys("lifecycle"), planned=SECRETIVE, kept=kept)


async def test_a_record_from_before_marks_is_opened() -> None:
    household = Household()
    former = hidden(household).model_copy(update={"digest": ""})
    keys = household.keys("lifecycle")
    assert await is_proven_hidden(keys, planned=SECRETIVE, kept=former, headers=False)
    changed = {**SECRETIVE, "data": {"password": "q"}}
    assert not await is_proven_hidden(keys, planned=changed, kept=former, headers=False)


async def test_a_mark_gives_nothing_away() -> None:
    """Neither is it the digest, nor do equal texts look equal, nor has anybody else the key."""
    household = Household()
    digest = PlannedObject.of(SECRETIVE).digest
    one, other = hidden(household), hidden(household)
    assert digest not in one.model_dump_json() + str(proof_headers(one))
    assert one.digest != other.digest
    for service in ("translator", "perf", "topology", "gateway"):
        assert not Proof.of(one).says(digest, keys=household.keys(service))


# ---- The record after an operation ---------------------------------------------------------------

OTHER = PlannedObject.of(thing("ConfigMap", "istio", namespace="istio-system"))


async def applied(store: Store, answer: KubeObject, *, planned: PlannedObject = PLANNED) -> Ledger:
    """A ledger that has kept one applied object."""
    book = Ledger(store, Command(operation="op", kind="istio", cluster="c1"))
    book.applied(planned, answer)
    await book.settle()
    return book


async def test_what_was_applied_is_proven_as_the_server_has_it() -> None:
    answer = live(resourceVersion="20", generation=3)
    book = await applied(Store(), answer)
    assert await book.proven([PLANNED], {PLANNED.ref: answer}) == {PLANNED.ref}


async def test_what_was_unchanged_keeps_its_proof() -> None:
    store, answer = Store(), live()
    await applied(store, answer)
    book = await applied(store, {**thing("ConfigMap", "istio")}, planned=OTHER)
    assert await book.proven([PLANNED], {PLANNED.ref: answer}) == {PLANNED.ref}


async def test_what_was_neither_applied_nor_known_is_not_proven() -> None:
    answer = live()
    book = await applied(Store(), answer)
    there = {PLANNED.ref: answer, OTHER.ref: thing("ConfigMap", "istio")}
    assert await book.proven([PLANNED, OTHER], there) == {PLANNED.ref}


async def test_what_was_deleted_is_not_proven() -> None:
    store, answer = Store(), live()
    book = await applied(store, answer)
    await book.forget([PLANNED.ref], kinds={})
    assert await book.proven([PLANNED], {PLANNED.ref: answer}) == frozenset()


async def test_an_object_without_a_generation_is_proven_by_its_version() -> None:
    answer = live(generation=None)
    book = await applied(Store(), answer)
    assert await book.proven([PLANNED], {PLANNED.ref: answer}) == {PLANNED.ref}
    touched = live(generation=None, resourceVersion="11")
    assert await book.proven([PLANNED], {PLANNED.ref: touched}) == frozenset()


async def test_a_text_that_is_changed_on_the_way_is_proven_by_the_planned_one() -> None:
    """A live `failurePolicy: Fail` is kept over a repeat, and the repeat is one all the same."""
    answer = live()
    sent = replace(PLANNED, body=orjson.dumps({**SENT, "spec": {"replicas": 2}}))
    book = await applied(Store(), answer, planned=sent)
    assert await book.proven([PLANNED], {PLANNED.ref: answer}) == {PLANNED.ref}
