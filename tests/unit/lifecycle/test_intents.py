"""The proof that lets a repeat send nothing: every doubt means sending."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.chassis.kube.applying import Applied
from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.cluster.inventory import Inventory
from services.lifecycle.manifests.intents import AppliedRecord, Intent, is_proven, key_of, recorded
from services.lifecycle.manifests.objects import PlannedObject, planned_object
from tests.unit.lifecycle.samples import found, inventory, thing

LABELS = {"istio.io/rev": "default", "app": "istiod"}
ANNOTATIONS = {"note": "a"}
SENT = {
    **thing("Deployment", "istiod", LABELS, namespace="istio-system", annotations=ANNOTATIONS),
    "spec": {"replicas": 1},
}
PLANNED = planned_object(SENT)
KEY = key_of(PLANNED.ref)


def live(**metadata: Any) -> KubeObject:
    """The object as the server has it after the apply, with changes; None takes a field away."""
    obj = copy.deepcopy(SENT)
    filled = {"uid": "u-1", "resourceVersion": "10", "generation": 1, **metadata}
    obj["metadata"].update(filled)
    obj["metadata"] = {name: value for name, value in obj["metadata"].items() if value is not None}
    return obj


def record(**changed: Any) -> AppliedRecord:
    fields = {"digest": PLANNED.digest, "uid": "u-1", "resource_version": "10", "generation": 1}
    return AppliedRecord(**{**fields, **changed})


def intent(known: AppliedRecord | None = None) -> Intent:
    objects = {KEY: known} if known else {}
    return Intent(revision="default", version="1.31.0", objects=objects)


def there(**metadata: Any) -> Inventory:
    return inventory(found(live(**metadata)))


PROVEN: dict[str, tuple[Intent, Inventory]] = {
    "untouched": (intent(record()), there()),
    "only its status changed": (intent(record()), there(resourceVersion="11")),
    "a foreign label added": (
        intent(record()),
        there(resourceVersion="11", labels={**LABELS, "other": "x"}),
    ),
    "a foreign annotation added": (
        intent(record()),
        there(resourceVersion="11", annotations={**ANNOTATIONS, "other": "x"}),
    ),
    "untouched and without a generation": (intent(record(generation=0)), there(generation=None)),
}

NOT_PROVEN: dict[str, tuple[Intent | None, Inventory]] = {
    "no intent": (None, there()),
    "no record": (intent(), there()),
    "not in the cluster": (intent(record()), inventory()),
    "neither": (None, inventory()),
    "another text": (intent(record(digest="other")), there()),
    "another object of the name": (intent(record()), there(uid="u-2")),
    "another object, same version": (intent(record(uid="u-0")), there()),
    "no UID": (intent(record()), there(uid=None)),
    "changed spec": (intent(record()), there(resourceVersion="11", generation=2)),
    "changed and changed back": (intent(record()), there(resourceVersion="12", generation=3)),
    "generation lower than ours": (
        intent(record(generation=5)),
        there(resourceVersion="11", generation=4),
    ),
    "changed label": (
        intent(record()),
        there(resourceVersion="11", labels={**LABELS, "app": "other"}),
    ),
    "removed label": (intent(record()), there(resourceVersion="11", labels={"app": "istiod"})),
    "no label left": (intent(record()), there(resourceVersion="11", labels=None)),
    "changed annotation": (
        intent(record()),
        there(resourceVersion="11", annotations={"note": "b"}),
    ),
    "no annotation left": (intent(record()), there(resourceVersion="11", annotations=None)),
    "changed and without a generation": (
        intent(record(generation=0)),
        there(resourceVersion="11", generation=None),
    ),
    "version gone from the metadata": (
        intent(record()),
        there(resourceVersion=None, generation=None),
    ),
}


@pytest.mark.parametrize("case", PROVEN)
def test_proven(case: str) -> None:
    assert is_proven(PLANNED, *PROVEN[case])


@pytest.mark.parametrize("case", NOT_PROVEN)
def test_not_proven(case: str) -> None:
    assert not is_proven(PLANNED, *NOT_PROVEN[case])


def test_an_object_of_another_namespace_is_another_object() -> None:
    other = copy.deepcopy(SENT)
    other["metadata"]["namespace"] = "mesh"
    assert not is_proven(planned_object(other), intent(record()), there())


# ---- The record after an operation ---------------------------------------------------------------

OTHER = planned_object(thing("ConfigMap", "istio", namespace="istio-system"))


def after(
    objects: list[PlannedObject], applied: dict[Ref, Applied], before: Intent | None
) -> Intent:
    return recorded(objects, applied, before=before, revision="default", version="1.31.1")


def applied_as(obj: KubeObject) -> Applied:
    return Applied(Ref.of(obj), obj, created=True)


def test_what_was_applied_is_recorded_as_the_server_has_it() -> None:
    answer = live(resourceVersion="20", generation=3)
    made = after([PLANNED], {PLANNED.ref: applied_as(answer)}, intent(record()))
    assert made.version == "1.31.1"
    assert made.objects == {KEY: record(resource_version="20", generation=3)}
    assert is_proven(PLANNED, made, inventory(found(answer)))


def test_what_was_unchanged_keeps_its_record() -> None:
    made = after([PLANNED], {}, intent(record()))
    assert made.objects == {KEY: record()}


def test_what_was_neither_applied_nor_known_is_not_recorded() -> None:
    assert after([PLANNED, OTHER], {}, intent(record())).objects == {KEY: record()}
    assert after([PLANNED], {}, None).objects == {}


def test_what_is_no_longer_planned_is_forgotten() -> None:
    assert after([OTHER], {}, intent(record())).objects == {}


def test_an_object_without_a_generation_is_recorded() -> None:
    made = after([PLANNED], {PLANNED.ref: applied_as(live(generation=None))}, None)
    assert made.objects[KEY].generation == 0


def test_a_record_survives_its_bucket() -> None:
    stored = Intent.model_validate_json(intent(record()).model_dump_json())
    assert stored == intent(record())


def test_keys_tell_objects_apart() -> None:
    refs = [
        Ref("v1", "ConfigMap", "a", "b"),
        Ref("v1", "ConfigMap", "", "b"),
        Ref("v1", "Secret", "a", "b"),
        Ref("apps/v1", "ConfigMap", "a", "b"),
    ]
    assert len({key_of(ref) for ref in refs}) == len(refs)
