"""Who should watch which cluster: evenly, alike for everybody, and with few moves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.topology.sharing import shared

CLUSTERS = st.sets(st.text("abcdef0123456789", min_size=4, max_size=8), max_size=60)
SEATS = st.sets(st.integers(0, 9).map(str), min_size=1, max_size=6)
MUCH = 1000


def _rooms(seats: set[str], room: int = MUCH) -> dict[str, int]:
    return dict.fromkeys(seats, room)


@given(CLUSTERS, SEATS)
def test_no_two_seats_differ_by_more_than_one(clusters: set[str], seats: set[str]) -> None:
    found = shared(clusters, rooms=_rooms(seats))
    assert found.keys() == clusters
    loads = Counter(found.values())
    counts = [loads[seat] for seat in seats]
    assert max(counts) - min(counts) <= 1


@given(CLUSTERS, st.dictionaries(st.integers(0, 5).map(str), st.integers(1, 20), min_size=1))
def test_no_seat_has_more_than_its_room(clusters: set[str], rooms: dict[str, int]) -> None:
    found = shared(clusters, rooms=rooms)
    loads = Counter(found.values())
    assert all(loads[seat] <= room for seat, room in rooms.items())
    assert len(found) == min(len(clusters), sum(rooms.values()))


@given(CLUSTERS, SEATS, SEATS)
def test_everybody_comes_to_the_same(clusters: set[str], seats: set[str], vacant: set[str]) -> None:
    turned = sorted(clusters, reverse=True)
    rooms, free = _rooms(seats), vacant - seats
    backwards = dict(sorted(rooms.items(), reverse=True))
    assert shared(clusters, rooms=rooms, vacant=free) == shared(
        turned, rooms=backwards, vacant=sorted(free, reverse=True)
    )


@given(CLUSTERS, SEATS)
def test_nobody_has_more_than_its_part_while_a_seat_is_vacant(
    clusters: set[str], seats: set[str]
) -> None:
    found = shared(clusters, rooms=_rooms(seats), vacant={"next"})
    assert found.keys() == clusters
    assert max(Counter(found.values()).values(), default=0) <= -(-len(clusters) // len(seats))


def test_few_clusters_move_when_a_replica_comes_or_goes() -> None:
    clusters = [f"cluster-{number}" for number in range(100)]
    for count in range(2, 6):
        few = shared(clusters, rooms=_rooms({str(n) for n in range(count)}))
        more = shared(clusters, rooms=_rooms({str(n) for n in range(count + 1)}))
        moved = sum(few[cluster] != more[cluster] for cluster in clusters)
        # As many as the one that came must get, and a quarter more at most.
        assert 100 // (count + 1) <= moved <= 1.25 * 100 / (count + 1) + 2


def test_a_new_cluster_moves_hardly_any_other() -> None:
    clusters = [f"cluster-{number}" for number in range(100)]
    before = shared(clusters, rooms=_rooms({"0", "1", "2"}))
    after = shared([*clusters, "new"], rooms=_rooms({"0", "1", "2"}))
    assert sum(before[cluster] != after[cluster] for cluster in clusters) <= 3


@given(CLUSTERS, st.integers(2, 5))
def test_a_rolling_restart_moves_no_cluster_more_than_twice(clusters: set[str], count: int) -> None:
    """However long a step takes: what moves when one goes comes back when its successor does."""
    seats = {str(number) for number in range(count)}
    owners = shared(clusters, rooms=_rooms(seats))
    moves: Counter[str] = Counter()
    for seat in sorted(seats):
        for rooms, vacant in ((_rooms(seats - {seat}), {seat}), (_rooms(seats), set[str]())):
            target = shared(clusters, rooms=rooms, vacant=vacant)
            moves.update(cluster for cluster in clusters if owners[cluster] != target[cluster])
            owners = target
    assert max(moves.values(), default=0) <= 2


def test_what_a_vacant_seat_had_is_all_that_moves() -> None:
    clusters = [f"cluster-{number}" for number in range(50)]
    before = shared(clusters, rooms=_rooms({"0", "1", "2"}))
    lent = shared(clusters, rooms=_rooms({"0", "2"}), vacant={"1"})
    moved = {cluster for cluster in clusters if before[cluster] != lent[cluster]}
    assert moved == {cluster for cluster, seat in before.items() if seat == "1"}
    assert set(map(lent.get, moved)) == {"0", "2"}, "it is divided among both others"
