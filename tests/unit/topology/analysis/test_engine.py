"""What the engine keeps up to date equals what a fresh analysis finds, whatever happened before.

This is what guards the recorded marks: a rule that looks past its lens is found here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.topology.analysis.catalog import CODES, Rule
from services.topology.analysis.engine import Analysis
from services.topology.analysis.findings import Finding
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Object
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State
from tests.unit.topology.analysis.ist.cases.all import ALL
from tests.unit.topology.analysis.ist.worlds import findings_of, kind_of, world

_READER = Reader()


def _read(objects: list[dict[str, Any]]) -> list[Object]:
    return [_READER.read(kind_of(obj), obj) for obj in objects]


def _worlds(code: str) -> list[list[Object]]:
    """The objects of each case of a code in one namespace, so that those of two cases are versions
    of each other, and of its mesh."""
    cases = [replace(case, name="here") for case in ALL if case.code == code]
    return [_read([*world(case.world), *case.objects()]) for case in cases]


_WORLDS = {code: _worlds(code) for code in CODES if code.startswith("IST")}
_PODS = [o for found in _WORLDS["IST0103"] for o in found if o.key.kind == kinds.POD][:3]


@pytest.mark.parametrize("code", _WORLDS)
def test_each_step_from_one_case_to_the_next_equals_a_fresh_analysis(code: str) -> None:
    """One object at a time, there and back, so that nothing else evaluates the rule again."""
    state = State("c")
    analysis = Analysis(state, RULES)
    stops = [*_WORLDS[code], [], *reversed(_WORLDS[code])]
    for stop in stops:
        wanted = {obj.key: obj for obj in stop}
        known = [obj.key for kind in state.kinds() for obj in state.all(kind)]
        changes = [*(key for key in known if key not in wanted), *wanted.values()]
        for one in changes:
            change = state.drop(one) if isinstance(one, Key) else state.put(one)
            if change is None:
                continue
            analysis.touch([change])
            while analysis.is_due:
                analysis.evaluate()
            assert set(analysis.findings) == findings_of(state), str(change.key)


@pytest.mark.parametrize("code", _WORLDS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_increments_equal_a_fresh_analysis(code: str, data: st.DataObject) -> None:
    """In any order, with evaluations that stop half way."""
    pool = st.sampled_from([obj for found in _WORLDS[code] for obj in found] + _PODS)
    steps = st.tuples(pool, st.sampled_from((False, False, True)), st.sampled_from((0, 2, 200)))
    state, told = State("c"), set[Finding]()
    analysis = Analysis(state, RULES)
    for obj, is_drop, evaluated in data.draw(st.lists(steps, max_size=30)):
        _take(analysis, told, most=evaluated)
        change = state.drop(obj.key) if is_drop else state.put(obj)
        analysis.touch([change] if change is not None else [])
    while analysis.is_due:
        _take(analysis, told, most=7)
    assert set(analysis.findings) == findings_of(state)
    assert told == findings_of(state)


def _take(analysis: Analysis, told: set[Finding], *, most: int) -> None:
    news = analysis.evaluate(most=most)
    assert not told & set(news.found)
    assert told >= set(news.withdrawn)
    told.difference_update(news.withdrawn)
    told.update(news.found)


def test_a_rule_that_fails_on_an_object_ends_no_other() -> None:
    def fails(*_: object) -> Iterator[Finding]:
        raise ValueError("unforeseen")
        yield

    state = State("c")
    broken = Rule(finds=("X",), kinds=(kinds.SERVICE,), check=fails)
    analysis = Analysis(state, (broken, *RULES))
    service = next(o for o in _WORLDS["IST0118"][0] if o.key.kind == kinds.SERVICE)
    change = state.put(service)
    assert change is not None
    analysis.touch([change])
    analysis.evaluate()
    assert {finding.object for finding in analysis.findings} == {service.key}


def test_nothing_is_kept_of_what_is_gone() -> None:
    state = State("c")
    analysis = Analysis(state, RULES)
    known: set[Key] = set()
    for obj in (obj for worlds in _WORLDS.values() for found in worlds for obj in found):
        change = state.put(obj)
        analysis.touch([change] if change is not None else [])
        known.add(obj.key)
    while analysis.is_due:
        analysis.evaluate()
    for key in known:
        change = state.drop(key)
        assert change is not None
        analysis.touch([change])
    while analysis.is_due:
        analysis.evaluate()
    assert not set(analysis.findings)
    assert not any((analysis._found, analysis._marks, analysis._marks._items, analysis._counts))
    assert not any(state._tagged.values())
