"""Plans: which steps are carried out together."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.messages import Category, Plan, SlotKind, Step, StepKind
from services.lifecycle.manifests.plans import _groups, plan_operation


def step(
    title: str, level: int = 0, *, kind: StepKind = StepKind.MANIFEST, is_deletion: bool = False
) -> Step:
    return Step(title=title, kind=kind, level=level, is_deletion=is_deletion)


def grouped(*steps: Step) -> list[list[str]]:
    return [[one.title for one in group] for group in _groups(steps)]


MESH, INJECTION, APPLICATION = StepKind.MESH, StepKind.INJECTION, StepKind.APPLICATION


@pytest.mark.parametrize(
    ("steps", "groups"),
    [
        pytest.param([], [], id="none"),
        pytest.param([step("a", 1)], [["a"]], id="one"),
        pytest.param([step("a", 1), step("b", 1)], [["a", "b"]], id="a level together"),
        pytest.param([step("a", 1), step("b", 2)], [["a"], ["b"]], id="levels one by one"),
        pytest.param([step("a"), step("b")], [["a"], ["b"]], id="without a level one by one"),
        pytest.param(
            [step("a", 1), step("m", 1, kind=MESH), step("b", 1)],
            [["a"], ["m"], ["b"]],
            id="a mesh keeps its place",
        ),
        pytest.param(
            [step("i", 1, kind=INJECTION), step("j", 1, kind=INJECTION)],
            [["i"], ["j"]],
            id="operations one by one",
        ),
        pytest.param(
            [step("x", 1, kind=APPLICATION), step("a", 1), step("b", 1)],
            [["x"], ["a", "b"]],
            id="manifests beside an operation",
        ),
        pytest.param(
            [step("a", 1), step("b", 1, is_deletion=True)],
            [["a"], ["b"]],
            id="what comes and what goes",
        ),
        pytest.param(
            [step("a", 1), step("b", 2), step("c", 1)],
            [["a"], ["b"], ["c"]],
            id="a level that comes back is another one",
        ),
        pytest.param([step("a", 1), step("b"), step("c", 1)], [["a"], ["b"], ["c"]], id="between"),
    ],
)
def test_what_is_carried_out_together(steps: list[Step], groups: list[list[str]]) -> None:
    assert grouped(*steps) == groups


any_steps = st.lists(
    st.builds(
        step,
        st.just("s"),
        st.integers(0, 2),
        kind=st.sampled_from(StepKind),
        is_deletion=st.booleans(),
    ),
    max_size=8,
)


@given(any_steps)
def test_no_step_is_lost_doubled_or_moved(steps: list[Step]) -> None:
    groups = list(_groups(steps))
    assert [one for group in groups for one in group] == steps
    assert all(groups)
    for group in groups:
        assert len(group) == 1 or all(
            (one.kind, one.level, one.is_deletion)
            == (StepKind.MANIFEST, group[0].level, group[0].is_deletion)
            and one.level
            for one in group
        )


@given(any_steps)
def test_no_two_groups_could_have_been_one(steps: list[Step]) -> None:
    for before, after in pairwise(_groups(steps)):
        first, second = before[-1], after[0]
        assert (
            first.kind != StepKind.MANIFEST
            or second.kind != StepKind.MANIFEST
            or first.level == 0
            or first.level != second.level
            or first.is_deletion != second.is_deletion
        )


def test_a_plan_is_an_operation_that_nobody_lists() -> None:
    """It runs beside others; what needs the mesh for itself waits for it step by step."""
    operation = plan_operation(Plan(steps=[], summary="s"), {})
    assert operation.advertised.slot is SlotKind.APPLY
    assert operation.advertised.category is Category.CUSTOM
    assert not operation.advertised.is_listed
