"""The order of a gate's runs."""

from __future__ import annotations

from services.perf.operations.alternating import Side, Turn, looks, turns


def order(*, pairs: int) -> str:
    return " ".join(turn.side[0].upper() for turn in turns(1, pairs, alternates=True))


def test_each_pair_has_both_sides_and_begins_where_the_one_before_ended() -> None:
    assert order(pairs=4) == "B A A B B A A B"


def test_the_mesh_is_switched_once_for_each_pair() -> None:
    found = list(turns(1, 6, alternates=True))
    switches = [turn.switches for turn in found]
    assert switches == sorted(switches)
    assert switches[-1] == 6
    for turn in found:
        assert (turn.switches % 2 == 1) is (turn.side is Side.AFTER)


def test_further_pairs_go_on_where_the_first_ones_ended() -> None:
    together = list(turns(1, 5, alternates=True))
    assert [*turns(1, 3, alternates=True), *turns(4, 5, alternates=True)] == together


def test_a_drift_that_goes_on_and_on_hardly_moves_the_difference() -> None:
    """The place in time of the runs of either side is the same, but for a third of a run."""
    places: dict[Side, list[int]] = {side: [] for side in Side}
    for place, turn in enumerate(turns(1, 3, alternates=True)):
        places[turn.side].append(place)
    middles = [sum(each) / len(each) for each in places.values()]
    assert abs(middles[0] - middles[1]) < 0.5


def test_what_does_not_alternate_is_switched_once() -> None:
    assert list(turns(1, 2, alternates=False)) == [
        Turn(Side.BEFORE, 1, 0),
        Turn(Side.BEFORE, 2, 0),
        Turn(Side.AFTER, 1, 1),
        Turn(Side.AFTER, 2, 1),
    ]


def test_looks() -> None:
    assert looks(3, 2) == (3, 4, 5)
    assert looks(1, 0) == (1,)
