"""CEL rules of definitions: which hold, how they are told, and what is told of those that cannot
be evaluated here."""

from __future__ import annotations

from typing import Any

import pytest

from services.translator.definitions.expressions import compiled
from services.translator.definitions.rules import field_path
from services.translator.definitions.values import escaped
from services.translator.reports import Level
from tests.unit.translator.definitions.samples import findings, told, with_field

TEXT = {"type": "string"}
INTEGER = {"type": "integer"}


def ruled(schema: dict[str, Any], *rules: str, **more: Any) -> dict[str, Any]:
    entries = [{"rule": rule, "message": f"broken: {rule}", **more} for rule in rules]
    return {**schema, "x-kubernetes-validations": entries}


def object_of(*rules: str, **properties: Any) -> dict[str, Any]:
    return ruled({"type": "object", "properties": properties}, *rules)


HOLDING: dict[str, tuple[dict[str, Any], Any]] = {
    "presence": (object_of("has(self.a) != has(self.b)", a=TEXT, b=TEXT), {"a": "x"}),
    "absent fields": (object_of("!has(self.a) || self.a > 1", a=INTEGER), {}),
    "characters, not bytes": (ruled(TEXT, "self.size() == 2 && size(self) == 2"), "äö"),
    "lists and mappings have sizes": (
        object_of(
            "size(self.a) == 1 && self.b.size() == 1",
            a={"type": "array", "items": TEXT},
            b={"type": "object", "additionalProperties": TEXT},
        ),
        {"a": ["ä"], "b": {"ö": "x"}},
    ),
    "keys of a mapping": (
        ruled({"type": "object", "additionalProperties": TEXT}, "self.all(k, !k.contains('*'))"),
        {"a": "*"},
    ),
    "keys as numbers": (
        ruled(
            {"type": "object", "additionalProperties": TEXT},
            "self.all(key, 0 < int(key) && int(key) <= 65535)",
        ),
        {"80": "x"},
    ),
    "exactly one": (
        ruled(
            {"type": "array", "items": object_of(n=INTEGER)},
            "self.all(a, self.exists_one(b, a.n == b.n))",
        ),
        [{"n": 1}, {"n": 2}],
    ),
    "an error beside something true": (
        object_of("size(self.b) > 0 || self.a == 'x'", a=TEXT, b={"type": "array", "items": TEXT}),
        {"a": "x"},
    ),
    "durations of Go": (ruled(TEXT, "duration(self) >= duration('1ms')"), "1h0.5s1500µs"),
    "URL": (ruled(TEXT, "isURL(self) && url(self).getScheme() in ['http']"), "http://a/b"),
    "parts of a URL": (
        ruled(
            TEXT,
            "url(self).getHostname() == 'a.b' && url(self).getPort() == '80' && "
            "url(self).getEscapedPath() == '/x%20y' && url(self).getQuery() == {'q': ['1', '2']}",
        ),
        "HTTP://a.b:80/x y?q=1&q=2",
    ),
    "no IP": (ruled(TEXT, "!isIP(self)"), "::ffff:1.2.3.4"),
    "substring": (ruled(TEXT, "self.substring(7, 8) == '/'"), "unix:///x"),
    "split": (ruled(TEXT, "self.split('/')[0].size() < 3"), "ab/c"),
    "regular expressions of Go": (ruled(TEXT, r"self.matches('^(?i)\\pL+[[:digit:]]$')"), "aÄ1"),
    "raw text over lines": (ruled(TEXT, "self.matches(r'''^a\\.b$''') // why\n"), "a.b"),
    "reserved and special names": (
        object_of(
            "self.__namespace__ == 'a' && self.x__dash__y == 'b' && self.a__dot__b == 'c'",
            **{"namespace": TEXT, "x-y": TEXT, "a.b": TEXT},
        ),
        {"namespace": "a", "x-y": "b", "a.b": "c"},
    ),
    "names of a mapping are not escaped": (
        ruled({"type": "object", "additionalProperties": TEXT}, "self['namespace'] == 'a'"),
        {"namespace": "a"},
    ),
    "whole numbers of a number field": (
        object_of("self.a + 0.5 == 1.5", a={"type": "number"}),
        {"a": 1},
    ),
    "times": (
        object_of(
            "self.a < timestamp('2027-01-01T00:00:00Z')",
            a={"type": "string", "format": "date-time"},
        ),
        {"a": "2026-01-31T12:00:00+01:00"},
    ),
    "durations by format": (
        object_of("self.a > duration('1s')", a={"type": "string", "format": "duration"}),
        {"a": "1m"},
    ),
    "bytes by format": (
        object_of("self.a == b'abc'", a={"type": "string", "format": "byte"}),
        {"a": "YWJj"},
    ),
    "defaults come first": (
        object_of("self.a == 'x'", a={"type": "string", "default": "x"}),
        {},
    ),
    "defaults in list items": (
        ruled(
            {"type": "array", "items": object_of(kind={"type": "string", "default": "Service"})},
            "self.all(item, item.kind == 'Service')",
        ),
        [{}, {"kind": "Service"}],
    ),
    "an absent place has no rules": (
        object_of(a=ruled(TEXT, "false")),
        {},
    ),
    "null has no rules": (object_of(a=ruled({**TEXT, "nullable": True}, "false")), {"a": None}),
    "a new object, by its word": (
        {
            **TEXT,
            "x-kubernetes-validations": [
                {"rule": "oldSelf.hasValue() || self == 'new'", "optionalOldSelf": True}
            ],
        },
        "new",
    ),
    "an empty rule": (ruled(TEXT, " "), "a"),
}


@pytest.mark.parametrize(("schema", "value"), HOLDING.values(), ids=HOLDING.keys())
def test_rules_that_hold_say_nothing(schema: dict[str, Any], value: Any) -> None:
    assert told(findings(with_field(schema), {"x": value})) == []


BROKEN: dict[str, tuple[dict[str, Any], Any]] = {
    "false": (ruled(TEXT, "self != '*'"), "*"),
    "no boolean": (ruled(TEXT, "self"), "a"),
    "an error of the evaluation": (ruled(TEXT, "int(self) > 0"), "x"),
    "a missing field": (object_of("self.a == 'x'", a=TEXT), {}),
    "no duration": (ruled(TEXT, "duration(self) >= duration('1ms')"), "5"),
    "a duration beyond all": (ruled(TEXT, "duration(self) >= duration('1ms')"), "9999999999h"),
    "no URL": (ruled(TEXT, "url(self).getScheme() == 'http'"), "a/b"),
    "in allOf": ({**TEXT, "allOf": [ruled({}, "self == 'b'")]}, "a"),
    "a size of nothing": (
        object_of("size(self.a) == 0", a={**TEXT, "nullable": True}),
        {"a": None},
    ),
}


@pytest.mark.parametrize(("schema", "value"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_rules_are_errors_at_their_place(schema: dict[str, Any], value: Any) -> None:
    [found] = findings(with_field(schema), {"x": value})

    assert (found.level, found.rule, found.path) == (Level.ERROR, "cel", ("spec", "x"))
    assert found.message.startswith("broken: ")


def test_each_broken_rule_of_a_place_is_told() -> None:
    schema = ruled(TEXT, "self != 'a'", "self != 'b'", "self.size() > 1")

    assert told(findings(with_field(schema), {"x": "a"})) == [
        "spec.x: broken: self != 'a'",
        "spec.x: broken: self.size() > 1",
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param({"message": " too short "}, "too short", id="its message"),
        pytest.param({}, "breaks the rule (self.size() > 3)", id="no message"),
        pytest.param(
            {"reason": "FieldValueForbidden"},
            "is forbidden by the rule (self.size() > 3)",
            id="no message but a reason",
        ),
        pytest.param(
            {"message": "m", "reason": "FieldValueForbidden"}, "m", id="a message and a reason"
        ),
        pytest.param(
            {"message": "m", "messageExpression": "'only ' + string(self.size())"},
            "only 2",
            id="a message that is made",
        ),
        pytest.param({"message": "m", "messageExpression": "self.x"}, "m", id="it cannot be made"),
        pytest.param({"message": "m", "messageExpression": "'  '"}, "m", id="it is made empty"),
        pytest.param({"message": "m", "messageExpression": "("}, "m", id="it cannot be read"),
    ],
)
def test_messages_of_rules(rule: dict[str, str], message: str) -> None:
    schema = {**TEXT, "x-kubernetes-validations": [{"rule": "self.size() > 3", **rule}]}
    [found] = findings(with_field(schema), {"x": "ab"})

    assert found.message == message


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        (".a", ("a",)),
        (".a.b", ("a", "b")),
        (".a['b.c'].d", ("a", "b.c", "d")),
        (r"['it\'s']", ("it's",)),
    ],
)
def test_field_paths(text: str, path: tuple[str, ...]) -> None:
    assert field_path(text) == path


def test_a_field_path_moves_the_finding() -> None:
    schema = object_of(a=TEXT)
    schema["x-kubernetes-validations"] = [{"rule": "false", "message": "m", "fieldPath": ".a"}]
    [found] = findings(with_field(schema), {"x": {"a": "b"}})

    assert found.path == ("spec", "x", "a")


UNCHECKED = {
    "a function of quantities": ("quantity(self).isGreaterThan(quantity('1'))", "it calls"),
    "a namespaced function": ("ip.isCanonical(self)", "it calls isCanonical"),
    "a comprehension of two variables": ("[self].all(i, v, v == self)", "it calls all"),
    "optional fields": ("self.?a.orValue('') == ''", "a syntax that cannot be read here"),
    "no CEL": ("self ===", "a syntax that cannot be read here"),
    "a name that nobody knows": ("self == authorizer", "a name in it is unknown here"),
}


@pytest.mark.parametrize(("rule", "words"), UNCHECKED.values(), ids=UNCHECKED.keys())
def test_what_cannot_be_evaluated_is_told_and_refuses_nothing(rule: str, words: str) -> None:
    schema = ruled(TEXT, rule, "self != 'a'")
    by_level = {found.level: found for found in findings(with_field(schema), {"x": "a"})}

    assert set(by_level) == {Level.INFO, Level.ERROR}
    assert by_level[Level.INFO].rule == "unchecked"
    assert words in by_level[Level.INFO].message
    assert by_level[Level.ERROR].message == "broken: self != 'a'"


def test_a_rule_about_a_change_is_told_as_such() -> None:
    [found] = findings(with_field(ruled(TEXT, "self == oldSelf")), {"x": "a"})

    assert (found.level, found.rule) == (Level.INFO, "unchecked")
    assert "as it was" in found.message


def test_a_rule_that_only_new_objects_break_is_a_warning() -> None:
    schema = ruled(TEXT, "oldSelf.hasValue() || self == 'new'", optionalOldSelf=True)
    [found] = findings(with_field(schema), {"x": "old"})

    assert found.level is Level.WARNING
    assert found.message.endswith("(holds for a new object)")


def test_rules_of_the_whole_object_see_its_name() -> None:
    rules = [{"rule": "self.metadata.name == 'b'", "message": "must be named b"}]
    found = findings(with_field(TEXT), {}, **{"x-kubernetes-validations": rules})

    assert [(f.path, f.message) for f in found] == [((), "must be named b")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            {"x": {"a": 1, "b": "c"}},
            ["spec.x.a: must be text, not a whole number", "spec.x.b: broken: self == 'x'"],
            id="a wrong type silences the rules around it, not those beside it",
        ),
        pytest.param(
            {"x": {"b": "c"}},
            ["spec.x.b: broken: self == 'x'", "spec.x.a: is required"],
            id="a missing field does as well",
        ),
        pytest.param(
            {"x": {"a": "y", "b": "x", "c": 1}},
            ["spec.x: broken: self.a == 'x'", "spec.x.c: unknown field `c`"],
            id="an unknown field silences nothing",
        ),
    ],
)
def test_rules_are_left_out_where_they_would_fail_in_the_wake(
    spec: dict[str, Any], expected: list[str]
) -> None:
    schema = object_of("self.a == 'x'", a=TEXT, b=ruled(TEXT, "self == 'x'"))
    schema["required"] = ["a"]

    assert told(findings(with_field(schema), spec)) == expected


def test_each_expression_is_compiled_once() -> None:
    assert compiled("self > 1") is compiled("self > 1")


@pytest.mark.parametrize(
    ("name", "as_written"),
    [
        ("plain", "plain"),
        ("namespace", "__namespace__"),
        ("a-b.c/d", "a__dash__b__dot__c__slash__d"),
        ("a__b", "a__underscores__b"),
        ("as", "__as__"),
    ],
)
def test_names_as_rules_write_them(name: str, as_written: str) -> None:
    assert escaped(name) == as_written
