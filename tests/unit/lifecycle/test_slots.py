"""Who gets the next slot: nobody's flood takes the others' turn, and no cluster takes all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from services.lifecycle.slots import Slots, Turn


@pytest.fixture
def queue() -> Iterator[ExitStack]:
    """What stands in a queue until the test ends."""
    with ExitStack() as standing:
        yield standing


def stands(queue: ExitStack, slots: Slots, cluster: str, identity: str = "local") -> Turn:
    return queue.enter_context(slots.asked(cluster=cluster, identity=identity))


def test_a_cluster_never_holds_more_than_its_share(queue: ExitStack) -> None:
    slots = Slots(4, 3)
    turns = [stands(queue, slots, "a") for _ in range(6)]
    assert [turn.has_come for turn in turns] == [True] * 3 + [False] * 3
    assert not slots.is_full
    assert stands(queue, slots, "b").has_come
    assert slots.is_full


def test_a_free_slot_goes_to_the_cluster_that_holds_least() -> None:
    slots = Slots(2, 2)
    with ExitStack() as first, ExitStack() as others:
        stands(first, slots, "a")
        stands(others, slots, "a")
        flood = [stands(others, slots, "a") for _ in range(100)]
        late = stands(others, slots, "b")
        first.close()
        assert late.has_come
        assert not any(turn.has_come for turn in flood)


def test_a_free_slot_goes_to_whoever_holds_least() -> None:
    slots = Slots(2, 2)
    with ExitStack() as first, ExitStack() as others:
        stands(first, slots, "a", "flooder")
        stands(others, slots, "b", "flooder")
        flood = [stands(others, slots, f"c{number}", "flooder") for number in range(100)]
        late = stands(others, slots, "z", "somebody")
        first.close()
        assert late.has_come
        assert not any(turn.has_come for turn in flood)


def test_equals_are_served_in_the_order_in_which_they_came() -> None:
    slots = Slots(1, 1)
    standing = {name: ExitStack() for name in "abcd"}
    turns = {name: stands(stack, slots, name) for name, stack in standing.items()}
    for name, stack in standing.items():
        assert [other for other in turns if turns[other].has_come][-1] == name
        stack.close()


def test_who_leaves_before_the_turn_takes_no_slot() -> None:
    slots = Slots(1, 1)
    with ExitStack() as first, ExitStack() as second, ExitStack() as third:
        stands(first, slots, "a")
        stands(second, slots, "b")
        last = stands(third, slots, "c")
        second.close()
        first.close()
        assert last.has_come
    assert not slots.is_full
    assert slots.waiting == 0
