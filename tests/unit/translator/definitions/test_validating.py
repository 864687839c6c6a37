"""Findings of whole objects: all at once, in order, and nothing raised whatever stands there."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.kube.objects import Ref
from services.translator.definitions.schemas import Schemas
from services.translator.definitions.validating import validate
from services.translator.definitions.wording import PROBLEM_LIMIT, SEARCHED_LIMIT
from services.translator.reports import Level
from tests.unit.translator.definitions.samples import (
    GROUP,
    definition,
    findings,
    thing,
    told,
    with_field,
)

TEXT = {"type": "string"}
ROUTE = {
    "type": "object",
    "required": ["host"],
    "properties": {
        "host": TEXT,
        "port": {"type": "integer", "format": "int32", "default": 80},
        "timeout": {
            **TEXT,
            "x-kubernetes-validations": [
                {"rule": "duration(self) > duration('0s')", "message": "must be a duration"}
            ],
        },
        "match": {
            "type": "object",
            "properties": {"exact": TEXT, "prefix": TEXT},
            "oneOf": [{"required": ["exact"]}, {"required": ["prefix"]}],
        },
        "namespace": TEXT,
        "labels": {"type": "object", "additionalProperties": TEXT},
        "anything": {"x-kubernetes-preserve-unknown-fields": True},
        "or": {"x-kubernetes-int-or-string": True},
        "maybe": {"type": "number", "nullable": True},
    },
    "x-kubernetes-validations": [
        {"rule": "!has(self.__namespace__) || self.host.size() < 5", "message": "host is too long"}
    ],
}
SPEC = {
    "type": "object",
    "properties": {
        "mode": {"type": "string", "enum": ["STRICT", "PERMISSIVE"]},
        "routes": {
            "type": "array",
            "maxItems": 4,
            "items": ROUTE,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["host"],
            "x-kubernetes-validations": [
                {"rule": "self.all(r, r.port != 0)", "message": "ports must not be 0"}
            ],
        },
    },
}
SCHEMAS = Schemas.read(
    [
        definition(SPEC, versions=("v1", "v1beta1", "v0"), unserved=("v0",), required=["spec"]),
        definition({"type": "object"}, kind="Thicket"),
    ]
)


def test_a_valid_object_has_no_findings() -> None:
    routes = [{"host": "a", "timeout": "5s", "match": {"exact": "x"}}, {"host": "b", "port": 1}]

    assert validate(thing({"mode": "STRICT", "routes": routes}), schemas=SCHEMAS) == []


def test_all_findings_come_at_once_in_the_order_of_the_object() -> None:
    routes = [
        {"hots": "a", "timeout": "5", "match": {"exact": "x", "prefix": "y"}},
        {"host": "b", "port": "80"},
        {"host": "b"},
    ]
    found = validate(thing({"routes": routes, "mode": "strict"}), schemas=SCHEMAS)

    assert told(found) == [
        "spec.routes[0].hots: unknown field `hots`",
        "spec.routes[0].timeout: must be a duration",
        (
            "spec.routes[0].match: only one of exact, prefix can stand here, "
            "not exact and prefix together"
        ),
        "spec.routes[0].host: is required",
        "spec.routes[1].port: must be a whole number, not text",
        "spec.routes[2]: has the same host as item 1 of the list; no two may",
        "spec.mode: must be one of STRICT, PERMISSIVE",
    ]
    assert found[0].subject == Ref(f"{GROUP}/v1", "Thing", "default", "a")
    assert {finding.level for finding in found} == {Level.ERROR}


def test_defaults_are_in_before_rules_and_not_in_the_object() -> None:
    obj = thing({"routes": [{"host": "a"}]})

    assert validate(obj, schemas=SCHEMAS) == []
    assert obj == thing({"routes": [{"host": "a"}]})
    assert told(validate(thing({"routes": [{"host": "a", "port": 0}]}), schemas=SCHEMAS)) == [
        "spec.routes: ports must not be 0"
    ]


def test_a_key_that_is_empty_is_part_of_the_place() -> None:
    by_name = {"type": "object", "additionalProperties": with_field({**TEXT, "minLength": 1})}
    found = findings(with_field(by_name), {"x": {"": {"x": ""}, "a": {"x": 1}}})

    assert told(found) == [
        'spec.x[""].x: must not be empty',
        "spec.x.a.x: must be text, not a whole number",
    ]


def test_status_is_not_looked_at() -> None:
    assert validate(thing({}, status={"anything": [1]}), schemas=SCHEMAS) == []


METADATA: dict[str, tuple[dict[str, Any], list[str]]] = {
    "what the API server writes": (
        {
            "name": "a",
            "uid": "x",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": None,
            "managedFields": [{}],
            "ownerReferences": [{}],
            "finalizers": ["a/b"],
            "labels": {"a/b": "c", "empty": "", "null": None},
            "annotations": {"a": "anything at all, { or }"},
        },
        [],
    ),
    "a label that is a number": (
        {"name": "a", "labels": {"version": 1}},
        ["metadata.labels.version: must be text, not a whole number"],
    ),
    "a label that no selector could name": (
        {"name": "a", "labels": {"a": "b c"}},
        ["metadata.labels.a: must match the pattern ^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"],
    ),
    "an unknown field": (
        {"name": "a", "lables": {}},
        ["metadata.lables: unknown field `lables`"],
    ),
}


@pytest.mark.parametrize(("metadata", "expected"), METADATA.values(), ids=METADATA.keys())
def test_metadata(metadata: dict[str, Any], expected: list[str]) -> None:
    assert told(validate(thing({}, metadata=metadata), schemas=SCHEMAS)) == expected


def test_a_definition_may_narrow_the_name() -> None:
    narrow = {"type": "object", "properties": {"name": {**TEXT, "pattern": "^b$"}}}
    properties = {"metadata": narrow, "spec": {"type": "object"}}
    found = validate(thing({}), schemas=Schemas.read([definition({}, properties=properties)]))

    assert told(found) == ["metadata.name: must match the pattern ^b$"]


@pytest.mark.parametrize(
    ("api_version", "kind", "path", "message", "remedy"),
    [
        pytest.param(
            f"{GROUP}/v2",
            "Thing",
            ("apiVersion",),
            f"Thing is not served as {GROUP}/v2",
            f"write one of {GROUP}/v1, {GROUP}/v1beta1",
            id="a version that does not exist",
        ),
        pytest.param(
            f"{GROUP}/v0",
            "Thing",
            ("apiVersion",),
            f"Thing is not served as {GROUP}/v0",
            f"write one of {GROUP}/v1, {GROUP}/v1beta1",
            id="a version that is not served any more",
        ),
        pytest.param(
            f"{GROUP}/v1beta1",
            "Thicket",
            ("apiVersion",),
            f"Thicket is not served as {GROUP}/v1beta1",
            f"write {GROUP}/v1",
            id="the only version is another one",
        ),
        pytest.param(
            f"{GROUP}/v1",
            "Things",
            ("kind",),
            f"{GROUP} has no kind `Things`",
            "write Thing",
            id="a kind that is nearly there",
        ),
        pytest.param(
            f"{GROUP}/v1",
            "Gadget",
            ("kind",),
            f"{GROUP} has no kind `Gadget`",
            "write one of Thicket, Thing",
            id="a kind unlike any",
        ),
    ],
)
def test_unknown_kinds_and_versions(
    api_version: str, kind: str, path: tuple[str, ...], message: str, remedy: str
) -> None:
    obj = {**thing({}), "apiVersion": api_version, "kind": kind}
    [found] = validate(obj, schemas=SCHEMAS)

    assert (found.level, found.rule, found.path) == (Level.ERROR, "version", path)
    assert (found.message, found.remedy) == (message, remedy)


@pytest.mark.parametrize("api_version", ["v1", "apps/v1", "example/v1", ""])
def test_kinds_of_other_groups_are_not_judged(api_version: str) -> None:
    assert validate({**thing({"x": 1}), "apiVersion": api_version}, schemas=SCHEMAS) == []


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(
            {"apiVersion": f"{GROUP}/v1", "kind": "Thing"}, ["spec: is required"], id="bare"
        ),
        pytest.param(
            thing({}, metadata=[]), ["metadata: must be a mapping, not a list"], id="metadata"
        ),
        pytest.param(
            thing({}, metadata=None), ["metadata: must be a mapping, not null"], id="null"
        ),
        pytest.param(thing("x"), ["spec: must be a mapping, not text"], id="spec"),
        pytest.param(thing({}, data={}), ["data: unknown field `data`"], id="unknown at the root"),
        pytest.param(
            thing({"routes": [{1: 2}]}),
            [": holds something that cannot be written as JSON"],
            id="a key that is no text",
        ),
        pytest.param(
            thing({"mode": "\ud800"}),
            [": holds something that cannot be written as JSON"],
            id="half a character",
        ),
    ],
)
def test_what_is_hardly_an_object(obj: dict[str, Any], expected: list[str]) -> None:
    assert told(validate(obj, schemas=SCHEMAS)) == expected


def test_very_many_faults_are_cut() -> None:
    found = validate(thing({f"x{n}": n for n in range(1000)}), schemas=SCHEMAS)

    assert len(found) == PROBLEM_LIMIT + 1
    assert found[0].message == f"has more faults than these {PROBLEM_LIMIT}"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"routes": [[]] * 190_000}, id="items of a wrong type"),
        pytest.param({"routes": [{"host": 1, "port": "x"}] * 60_000}, id="two faults in each item"),
        pytest.param({f"x{n}": [] for n in range(90_000)}, id="unknown fields"),
    ],
)
def test_the_faults_of_a_very_large_object_take_no_time(spec: dict[str, Any]) -> None:
    obj = thing(spec)

    def seconds() -> float:
        began = time.process_time()
        validate(obj, schemas=SCHEMAS)
        return time.process_time() - began

    # A processor that is shared is slower: one of a few times counts.
    assert any(seconds() < 1.0 for _ in range(4))
    found = validate(obj, schemas=SCHEMAS)
    assert len(found) <= PROBLEM_LIMIT + 2
    assert any("searched for in its first" in one.message for one in found)


def test_a_late_fault_of_a_very_large_object_refuses_it_as_well() -> None:
    spec = {"routes": [{"host": "a"}] * 60_000 + [{"host": 1}]}
    found = validate(thing(spec), schemas=SCHEMAS)
    words = f"has faults; they were searched for in its first {SEARCHED_LIMIT} values"
    assert words in [one.message for one in found if one.level is Level.ERROR]


def test_a_list_beyond_its_limit_has_no_rules_evaluated() -> None:
    routes = [{"host": str(n), "port": 0} for n in range(5)]

    assert told(validate(thing({"routes": routes}), schemas=SCHEMAS)) == [
        "spec.routes: must have at most 4 items"
    ]


def test_findings_do_not_depend_on_the_order_of_a_mapping_alone() -> None:
    one = thing({"b": 1, "a": 2})
    other = thing({"a": 2, "b": 1})

    assert [f.place for f in validate(one, schemas=SCHEMAS)] == ["spec.b", "spec.a"]
    assert [f.place for f in validate(other, schemas=SCHEMAS)] == ["spec.a", "spec.b"]


NAMES = st.sampled_from([*SPEC["properties"], *ROUTE["properties"], "x", "exact", "prefix"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["STRICT", "5s", "0s", "a", "9999999999h"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
# Mostly right, so that rules are reached as well.
ROUTES = st.fixed_dictionaries(
    {"host": st.text(max_size=8)},
    optional={
        "port": st.integers(-1, 2**31) | SCALARS,
        "timeout": st.sampled_from(["5s", "0s", "5"]) | SCALARS,
        "match": st.dictionaries(st.sampled_from(["exact", "prefix"]), st.text(max_size=3)),
        "namespace": st.text(max_size=3) | SCALARS,
        "anything": VALUES,
    },
)
SPECS = VALUES | st.fixed_dictionaries({"routes": st.lists(ROUTES, max_size=5)})


@given(SPECS)
def test_nothing_is_raised_whatever_stands_in_the_spec(spec: Any) -> None:
    obj = thing(spec)
    found = validate(obj, schemas=SCHEMAS)

    assert validate(obj, schemas=SCHEMAS) == found
    assert all(str(finding) for finding in found)


def test_a_field_whose_name_is_a_number_is_no_place_in_a_list() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "object"}}

    assert told(findings(with_field(schema), {"x": {"80": {"a": 1}}})) == [
        "spec.x.80.a: unknown field `a`"
    ]
    assert told(findings(with_field(schema), {"x": {"80": 1}})) == [
        "spec.x.80: must be a mapping, not a whole number"
    ]
