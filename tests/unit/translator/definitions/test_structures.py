"""Each feature of a structural schema: what fits, what does not, and the words for it."""

from __future__ import annotations

from typing import Any

import pytest

from services.translator.reports import Level
from tests.unit.translator.definitions.samples import findings, told, with_field

TEXT = {"type": "string"}
ANY_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
EXACT_OR_PREFIX = {
    "type": "object",
    "properties": {"exact": TEXT, "prefix": TEXT, "other": TEXT},
    "oneOf": [
        {"not": {"anyOf": [{"required": ["exact"]}, {"required": ["prefix"]}]}},
        {"required": ["exact"]},
        {"required": ["prefix"]},
    ],
}
MUST_CHOOSE = {**EXACT_OR_PREFIX, "oneOf": [{"required": ["exact"]}, {"required": ["prefix"]}]}
KEYED = {
    "type": "array",
    "items": {"type": "object", "properties": {"name": TEXT, "port": {"type": "integer"}}},
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
TWO_KEYS = {**KEYED, "x-kubernetes-list-map-keys": ["name", "port"]}
SET = {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}
DEFAULTED = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": {"type": "string", "default": "Service", "enum": ["Service"]}},
}
ADDRESS = {
    "type": "object",
    "properties": {"type": {"type": "string", "default": "IP"}, "value": TEXT},
    "oneOf": [
        {
            "properties": {
                "type": {"enum": ["IP"]},
                "value": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
            }
        },
        {"properties": {"type": {"not": {"enum": ["IP"]}}}},
    ],
}
EMBEDDED = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
}

FITTING: dict[str, tuple[dict[str, Any], Any]] = {
    "text": (TEXT, "a"),
    "a whole number": ({"type": "integer"}, 3),
    "a whole number with a point": ({"type": "integer"}, 3.0),
    "a whole number for a number": ({"type": "number"}, 3),
    "int32 at its end": ({"type": "integer", "format": "int32"}, 2**31 - 1),
    "int64 at its end": ({"type": "integer", "format": "int64"}, -(2**63)),
    "number of int-or-string": ({"x-kubernetes-int-or-string": True}, 80),
    "text of int-or-string": ({"x-kubernetes-int-or-string": True}, "http"),
    "int-or-string with its anyOf": (
        {"x-kubernetes-int-or-string": True, "anyOf": ANY_INT_OR_STRING, "pattern": "^h"},
        80,
    ),
    "null where nullable": ({"type": "string", "nullable": True}, None),
    "null where nullable, whatever oneOf says": ({**MUST_CHOOSE, "nullable": True}, None),
    "entries of any name": ({"type": "object", "additionalProperties": TEXT}, {"a": "b"}),
    "anything": ({"x-kubernetes-preserve-unknown-fields": True}, {"a": [1, None, {}]}),
    "unknown fields that are kept": (
        {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
        {"a": 1},
    ),
    "exclusive minimum": ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 0.1),
    "pattern anywhere": ({"type": "string", "pattern": "b+"}, "abbc"),
    "pattern of Go alone": ({"type": "string", "pattern": "^[[:alpha:]]+$"}, "abc"),
    "format that nobody checks": ({"type": "string", "format": "color"}, "x"),
    "none of the alternatives": (EXACT_OR_PREFIX, {"other": "a"}),
    "one of the alternatives": (EXACT_OR_PREFIX, {"exact": "a", "other": "b"}),
    "one that must be chosen": (MUST_CHOOSE, {"prefix": "a"}),
    "a list without duplicates": (KEYED, [{"name": "a"}, {"name": "b"}, {}]),
    "two keys, one of them shared": (TWO_KEYS, [{"name": "a", "port": 1}, {"name": "a"}]),
    "a required field with a default": (DEFAULTED, {}),
    "null for a field with a default": (DEFAULTED, {"kind": None}),
    "alternatives that see the default": (ADDRESS, {"value": "10.0.0.1"}),
    "alternatives that see another value": (ADDRESS, {"type": "Name", "value": "x"}),
    "an object in an object": (
        EMBEDDED,
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"x": 1}},
    ),
}


@pytest.mark.parametrize(("schema", "value"), FITTING.values(), ids=FITTING.keys())
def test_what_fits_has_no_findings(schema: dict[str, Any], value: Any) -> None:
    assert told(findings(with_field(schema), {"x": value})) == []


FAULTY: dict[str, tuple[dict[str, Any], Any, str, str]] = {
    "number for text": (TEXT, 1, "must be text, not a whole number", "put it into quotes"),
    "true for text": (TEXT, True, "must be text, not true", "put it into quotes"),
    "null for text": (TEXT, None, "must be text, not null", ""),
    "text for a whole number": (
        {"type": "integer"},
        "80",
        "must be a whole number, not text",
        "write it without quotes",
    ),
    "fraction": (
        {"type": "integer"},
        1.5,
        "must be a whole number, not a number with a fraction",
        "",
    ),
    "text for a number that may be null": (
        {"type": "number", "nullable": True},
        "0.5",
        "must be a number, not text",
        "write it without quotes",
    ),
    "text for true": (
        {"type": "boolean"},
        "true",
        "must be true or false, not text",
        "write it without quotes",
    ),
    "list for a mapping": ({"type": "object"}, [], "must be a mapping, not a list", ""),
    "mapping for a list": (
        {"type": "array"},
        {"a": 1},
        "must be a list, not a mapping",
        "write it as an item of a list",
    ),
    "a list for int-or-string": (
        {"x-kubernetes-int-or-string": True},
        [],
        "must be a whole number or text, not a list",
        "",
    ),
    "pattern of int-or-string": (
        {"x-kubernetes-int-or-string": True, "anyOf": ANY_INT_OR_STRING, "pattern": "^h"},
        "x",
        "must match the pattern ^h",
        "",
    ),
    "beyond int32": (
        {"type": "integer", "format": "int32"},
        2**31,
        "must be at most 2147483647",
        "",
    ),
    "beyond uint64": (
        {"type": "integer", "format": "int64"},
        2**70,
        "must be at most 9223372036854775807",
        "",
    ),
    "below the minimum": ({"type": "integer", "minimum": 1}, 0, "must be at least 1", ""),
    "at an exclusive minimum": (
        {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        0,
        "must be greater than 0",
        "",
    ),
    "at an exclusive maximum": (
        {"type": "number", "maximum": 1, "exclusiveMaximum": True},
        1,
        "must be less than 1",
        "",
    ),
    "empty text": ({"type": "string", "minLength": 1}, "", "must not be empty", ""),
    "long text": (
        {"type": "string", "maxLength": 2},
        "abc",
        "must have at most 2 characters",
        "",
    ),
    "empty list": ({"type": "array", "minItems": 1}, [], "must not be empty", ""),
    "long list": ({"type": "array", "maxItems": 1}, [1, 2], "must have at most 1 item", ""),
    "few entries": (
        {"type": "object", "additionalProperties": TEXT, "minProperties": 2},
        {"a": "b"},
        "must have at least 2 entries",
        "",
    ),
    "many entries": (
        {"type": "object", "additionalProperties": TEXT, "maxProperties": 1},
        {"a": "b", "c": "d"},
        "must have at most 1 entry",
        "",
    ),
    "no multiple": ({"type": "integer", "multipleOf": 2}, 3, "must be a multiple of 2", ""),
    "no match": ({"type": "string", "pattern": "^a$"}, "b", "must match the pattern ^a$", ""),
    "pattern that must end the text": (
        {"type": "string", "pattern": "^a$"},
        "a\n",
        "must match the pattern ^a$",
        "",
    ),
    "no match of a pattern of Go alone": (
        {"type": "string", "pattern": "^[[:alpha:]]+$"},
        "a1",
        "must match the pattern ^[[:alpha:]]+$",
        "",
    ),
    "format": (
        {"type": "string", "format": "date-time"},
        "yesterday",
        "must be a time such as 2026-01-31T12:00:00Z",
        "",
    ),
    "format without a phrase of its own": (
        {"type": "string", "format": "uuid"},
        "x",
        "must be of the format uuid",
        "",
    ),
    "not in the list": (
        {"type": "string", "enum": ["ALLOW", "DENY"]},
        "MAYBE",
        "must be one of ALLOW, DENY",
        "",
    ),
    "nearly in the list": (
        {"type": "string", "enum": ["ALLOW", "DENY"]},
        "allow",
        "must be one of ALLOW, DENY",
        "write ALLOW",
    ),
    "not the only value": ({"type": "string", "enum": ["A"]}, "b", "must be A", ""),
    "null is of no list": (
        {"type": "string", "nullable": True, "enum": ["A"]},
        None,
        "must be A",
        "",
    ),
    "two alternatives": (
        EXACT_OR_PREFIX,
        {"exact": "a", "prefix": "b"},
        "only one of exact, prefix can stand here, not exact and prefix together",
        "keep one of exact, prefix",
    ),
    "no alternative": (MUST_CHOOSE, {"other": "a"}, "one of exact, prefix must stand here", ""),
    "alternatives of another sort": (
        ADDRESS,
        {"value": "x"},
        (
            "fits no single allowed form: (1) value must be an IPv4 address or an IPv6 address; "
            "(2) type must not be IP"
        ),
        "",
    ),
    "anyOf": (
        {"type": "object", "properties": {"a": TEXT}, "anyOf": [{"required": ["a"]}]},
        {},
        "fits no allowed form: (1) a is required",
        "",
    ),
    "what is excluded": (
        {"type": "object", "properties": {"a": TEXT}, "not": {"required": ["a"]}},
        {"a": "b"},
        "a cannot stand here",
        "",
    ),
}


@pytest.mark.parametrize(
    ("schema", "value", "message", "remedy"), FAULTY.values(), ids=FAULTY.keys()
)
def test_what_does_not_fit_is_told_once(
    schema: dict[str, Any], value: Any, message: str, remedy: str
) -> None:
    [found] = findings(with_field(schema), {"x": value})

    assert (found.level, found.rule, found.path) == (Level.ERROR, "schema", ("spec", "x"))
    assert (found.message, found.remedy) == (message, remedy)


@pytest.mark.parametrize(
    ("items", "path", "message"),
    [
        pytest.param(
            (KEYED, [{"name": "a"}, {"name": "b"}, {"name": "a"}]),
            ("spec", "x", 2),
            "has the same name as item 0 of the list; no two may",
            id="one key",
        ),
        pytest.param(
            (TWO_KEYS, [{"name": "a", "port": 1}, {"port": 1, "name": "a"}]),
            ("spec", "x", 1),
            "has the same name, port as item 0 of the list; no two may",
            id="two keys in any order",
        ),
        pytest.param(
            (KEYED, [{}, {"port": 1}]),
            ("spec", "x", 1),
            "has the same name as item 0 of the list; no two may",
            id="the key is missing in both",
        ),
        pytest.param(
            (SET, ["a", "b", "b"]),
            ("spec", "x", 2),
            "is the same as item 1 of the list; no two may",
            id="set",
        ),
    ],
)
def test_duplicates_in_a_list_are_told(
    items: tuple[dict[str, Any], Any], path: tuple[str | int, ...], message: str
) -> None:
    schema, value = items
    [found] = findings(with_field(schema), {"x": value})

    assert (found.path, found.message) == (path, message)


@pytest.mark.parametrize(
    ("schema", "spec", "place", "message", "remedy"),
    [
        pytest.param(
            with_field(TEXT),
            {"y": 1},
            "spec.y",
            "unknown field `y`",
            "take it out, or write one of x",
            id="unlike any",
        ),
        pytest.param(
            {"type": "object", "properties": {"retries": TEXT, "route": TEXT}},
            {"retires": "a"},
            "spec.retires",
            "unknown field `retires`",
            "write retries",
            id="like one",
        ),
        pytest.param(
            {"type": "object", "properties": {"perTryTimeout": TEXT}},
            {"pertrytimeout": "a"},
            "spec.pertrytimeout",
            "unknown field `pertrytimeout`",
            "write perTryTimeout",
            id="in other letters",
        ),
        pytest.param(
            with_field({"type": "object"}),
            {"x": {"a": 1}},
            "spec.x.a",
            "unknown field `a`",
            "take it out; nothing can stand here",
            id="in an object without fields",
        ),
        pytest.param(
            with_field(TEXT, required=["x"]), {}, "spec.x", "is required", "", id="missing"
        ),
        pytest.param(
            with_field(EMBEDDED),
            {"x": {"kind": "Pod", "spec": {}}},
            "spec.x.apiVersion",
            "is required",
            "",
            id="missing in an object in an object",
        ),
    ],
)
def test_unknown_and_missing_fields(
    schema: dict[str, Any], spec: Any, place: str, message: str, remedy: str
) -> None:
    [found] = findings(schema, spec)

    assert (found.place, found.message, found.remedy) == (place, message, remedy)


def test_fields_that_an_alternative_names_are_not_known_by_that() -> None:
    schema = {**with_field(TEXT), "anyOf": [{"properties": {"y": {}}}]}

    assert told(findings(schema, {"y": 1})) == ["spec.y: unknown field `y`"]


def test_a_pattern_that_nothing_can_read_is_told_and_refuses_nothing() -> None:
    [found] = findings(with_field({"type": "string", "pattern": "a(?=b)"}), {"x": "c"})

    assert (found.level, found.rule) == (Level.INFO, "unchecked")
    assert "a(?=b)" in found.message
