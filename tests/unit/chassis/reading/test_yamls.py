"""YAML by events: the same values as a tree of nodes would make, counted, with their places."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import TooManyValues
from services.chassis.kube.manifests import Dumper
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import (
    Place,
    YamlProblem,
    document_lines,
    document_places,
    read_yaml,
    read_yaml_documents,
)
from tests.unit.chassis.reading.values import count_of, values


@given(values())
def test_json_is_read_as_what_it_is(value: Any) -> None:
    assert read_yaml(json.dumps(value, ensure_ascii=False)) == value


@given(values(), st.sampled_from([False, True, None]))
def test_what_pyyaml_writes_is_read_as_what_it_was(value: Any, flow: bool | None) -> None:
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=flow, allow_unicode=True)
    assert read_yaml(text) == value


@given(values())
def test_every_value_counts(value: Any) -> None:
    text, nodes = json.dumps(value, ensure_ascii=False), count_of(value)
    # Numbers, truth values and null count twice where they are new.
    assert read_yaml(text, budget=Budget.fresh(nodes=2 * nodes)) == value
    if nodes > 1:
        with pytest.raises(TooManyValues):
            read_yaml(text, budget=Budget.fresh(nodes=nodes - 1))


def test_texts_that_share_a_budget_are_counted_together() -> None:
    budget = Budget.fresh(nodes=8, is_shared=True)
    assert read_yaml("a: [x]", budget=budget) == {"a": ["x"]}
    assert read_yaml("a: [x]", budget=budget) == {"a": ["x"]}
    with pytest.raises(TooManyValues, match="more than 8 values"):
        read_yaml("a", budget=budget)


def test_a_text_that_is_too_long_says_where() -> None:
    with pytest.raises(TooManyValues, match="at line 3"):
        read_yaml("- a\n- b\n- c\n- d\n", budget=Budget.fresh(nodes=3))


# Text, and the values of its documents.
MEANINGS: list[tuple[str, list[Any]]] = [
    ("", []),
    ("# nothing", []),
    ("---\n---\na: b\n...\n", [None, {"a": "b"}]),
    ("a:\n", [{"a": None}]),
    ("a: ~\nb: null\nc: ''\n", [{"a": None, "b": None, "c": ""}]),
    ("a: yes\nb: 'yes'\nc: off\nd: n\n", [{"a": True, "b": "yes", "c": False, "d": False}]),
    (
        "a: 0x1F\nb: 010\nc: 0o17\nd: 1_000\ne: -0b11\n",
        [{"a": 31, "b": 8, "c": 15, "d": 1000, "e": -3}],
    ),
    ("a: 1.5\nb: 1e3\nc: 2.0\nd: .5\n", [{"a": 1.5, "b": 1000, "c": 2, "d": 0.5}]),
    ("a: 1:30\nb: 2024-01-01\nc: =\n", [{"a": "1:30", "b": "2024-01-01", "c": "="}]),
    ("1: a\ntrue: b\n1.5: c\n", [{"1": "a", "true": "b", "1.5": "c"}]),
    ("a: !!str 1\nb: ! 2\nc: ! [x]\n", [{"a": "1", "b": 2, "c": ["x"]}]),
    ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", [{"a": "x\ny\n", "b": "x y"}]),
    ("<<: {a: 1, b: 2}\nb: 3\n", [{"a": 1, "b": 3}]),
    ("<<: [{a: 1}, {a: 2, b: 2}]\n<<: {b: 4}\n", [{"a": 1, "b": 4}]),
    ("'<<': {a: 1}\n", [{"<<": {"a": 1}}]),
    ("&x a: &y b\n", [{"a": "b"}]),
    ("%YAML 1.1\n---\na: b\n", [{"a": "b"}]),
    ("? a\n: b\n? c\n", [{"a": "b", "c": None}]),
    ("a: '1'\nb: \"\\u00e9\"\n", [{"a": "1", "b": "é"}]),
]


@pytest.mark.parametrize(("text", "found"), MEANINGS, ids=range(len(MEANINGS)))
def test_a_text_means_what_kubectl_takes_it_for(text: str, found: list[Any]) -> None:
    documents = list(read_yaml_documents(text))
    assert documents == found
    assert [list(d) for d in documents if d] == [list(d) for d in found if d]


PROBLEMS = {
    "a: *b": (1, "aliases"),
    "\na: !x b": (2, "tags"),
    "a: 1\na: 2": (2, "twice"),
    "1: a\n0x1: b": (2, "twice"),
    "? [a]\n: b": (1, "neither text nor a number"),
    "? {a: b}\n: b": (1, "neither text nor a number"),
    "a: <<": (1, "no value"),
    "- <<": (1, "no value"),
    "<<: a": (1, "can be merged"),
    "<<: [a]": (2, "can be merged"),
    "a: b: c": (1, "not allowed"),
    "[" * 200: (1, "100 levels"),
    "{" * 200: (1, "100 levels"),
    "a: \ud800": (0, "character"),
}


@pytest.mark.parametrize("text", PROBLEMS)
def test_a_problem_has_its_line(text: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        read_yaml(text)
    line, words = PROBLEMS[text]
    assert words in str(caught.value)
    assert caught.value.line == line


def test_one_document_is_one_document() -> None:
    with pytest.raises(YamlProblem, match="more documents"):
        read_yaml("a: b\n---\nc: d\n")


def test_merging_is_paid_for() -> None:
    inner = "{" + ", ".join(f"k{number}: 1" for number in range(100)) + "}"
    text = "{<<: " * 50 + inner + "}" * 50
    with pytest.raises(TooManyValues):
        read_yaml(text, budget=Budget.fresh(nodes=1000))
    assert len(read_yaml(text)) == 100


def test_our_own_texts_may_have_aliases() -> None:
    text = "a: &x {b: [1]}\nc: *x\nd: {<<: *x, e: 2}\n"
    found = read_yaml(text, budget=Budget.trusted())
    assert found == {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1], "e": 2}}


TEXT = """\
# one
a: b
list:
- x
- y: 1
  z: {q: [1,
    2]}
---
- 1
---
"""


def test_places_are_those_of_keys_and_items() -> None:
    first, second, third = document_places(TEXT)
    assert first.line == 2
    assert (first.parts["a"].line, first.parts["list"].line) == (2, 3)
    item = first.parts["list"].parts[1]
    assert (item.line, item.parts["z"].line) == (5, 6)
    assert item.parts["z"].parts["q"].parts[1].line == 7
    assert (second.line, second.parts[0].line) == (9, 9)
    assert third.parts == {}
    assert document_lines(TEXT) == [2, 8, 10]


@given(values())
def test_every_value_has_a_place(value: Any) -> None:
    [place] = document_places(json.dumps(value, ensure_ascii=False, indent=1))
    _require_places(value, place)


def _require_places(value: Any, place: Place) -> None:
    assert place.line > 0
    if isinstance(value, dict):
        assert place.parts.keys() == value.keys()
        for key, part in value.items():
            _require_places(part, place.parts[key])
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _require_places(part, place.parts[index])
    else:
        assert not place.parts
