"""What a manifest has changed is put back, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.lifecycle.rollouts.undoing import Standing, change, reverse, standing

_NAMES = st.sampled_from("abcd")
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(0, 3), st.text("xy", max_size=2), st.booleans(), st.just([])),
    lambda inner: st.one_of(
        st.dictionaries(_NAMES, inner, max_size=3), st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=4)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, as its own text has it."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


@given(before=_OBJECTS, after=_OBJECTS)
def test_a_change_is_made_and_undone(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = change(before, after)
    assert merged(before, patch) == after
    assert standing(after, before, patch) is (Standing.CHANGED if patch else Standing.BACK)
    assert standing(before, before, patch) is Standing.BACK
    assert merged(after, reverse(before, patch)) == before


@given(before=_OBJECTS, after=_OBJECTS, name=st.sampled_from("xyz"), value=_VALUES)
def test_what_others_add_stays(
    before: dict[str, Any], after: dict[str, Any], name: str, value: Any
) -> None:
    patch = change(before, after)
    live = {**copy.deepcopy(after), name: value}
    assert standing(live, before, patch) is not Standing.EDITED
    assert merged(live, reverse(before, patch)) == {**before, name: value}


@pytest.mark.parametrize(
    ("live", "stands"),
    [
        ({"spec": {"mode": "STRICT", "port": 1}}, Standing.CHANGED),
        ({"spec": {"mode": "STRICT", "port": 2}}, Standing.CHANGED),
        ({"spec": {"mode": "PERMISSIVE", "port": 2}}, Standing.BACK),
        ({"spec": {"mode": "DISABLE", "port": 1}}, Standing.EDITED),
        ({"spec": {"port": 1}}, Standing.EDITED),
        ({}, Standing.EDITED),
    ],
)
def test_an_edit_in_the_same_place_is_seen(live: dict[str, Any], stands: Standing) -> None:
    before = {"spec": {"mode": "PERMISSIVE", "port": 1}}
    patch = change(before, {"spec": {"mode": "STRICT", "port": 1}})
    assert standing(live, before, patch) is stands


def test_members_that_are_null_are_absent() -> None:
    before = {"metadata": {"creationTimestamp": None}, "a": 1}
    assert change(before, {"metadata": {}, "a": 1}) == {}
    assert change({"a": 1}, {"a": 1, "b": {"c": None}}) == {"b": {"c": None}}
