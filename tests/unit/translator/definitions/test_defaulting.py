"""Defaults: where they come, where not, and that nothing is changed in place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.translator.definitions.values import completed, defaults_of

PART = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "default": "Service"},
        "weight": {"type": "integer", "default": 1, "nullable": True},
        "deep": {
            "type": "object",
            "default": {"a": 1},
            "properties": {"b": {"type": "integer", "default": 2}},
        },
        "bare": {"type": "object", "properties": {"c": {"type": "string", "default": "x"}}},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "status": PART,
        "spec": {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": PART},
                "named": {"type": "object", "additionalProperties": PART},
                "plain": {"type": "string"},
            },
        },
    },
}
WHOLE = {"kind": "Service", "weight": 1, "deep": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, WHOLE, id="all are missing"),
        pytest.param({"kind": "A", "weight": 0}, {**WHOLE, "kind": "A", "weight": 0}, id="some"),
        pytest.param({"kind": None}, WHOLE, id="null counts as missing"),
        pytest.param({"weight": None}, {**WHOLE, "weight": None}, id="unless it is allowed"),
        pytest.param({"deep": {}}, {**WHOLE, "deep": {"b": 2}}, id="only what is missing"),
        pytest.param({"bare": {}}, {**WHOLE, "bare": {"c": "x"}}, id="below what has no default"),
        pytest.param("text", "text", id="a wrong type stays"),
    ],
)
def test_where_defaults_come(given: Any, expected: Any) -> None:
    defaults = defaults_of(SCHEMA)
    assert defaults is not None
    obj = {"spec": {"items": [given], "named": {"n": given}}, "status": {}}
    before = copy.deepcopy(obj)

    found = completed(obj, defaults)

    assert found == {"spec": {"items": [expected], "named": {"n": expected}}, "status": {}}
    assert obj == before


def test_what_needs_no_default_is_shared() -> None:
    defaults = defaults_of(SCHEMA)
    assert defaults is not None
    obj = {"spec": {"items": [WHOLE], "plain": "x"}, "other": {}}

    assert completed(obj, defaults) is obj


def test_a_schema_without_defaults_has_none() -> None:
    assert defaults_of({"type": "object", "properties": {"status": PART}}) is None
