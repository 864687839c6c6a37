"""How often something may be tried."""

from __future__ import annotations

from services.topology.adapters.console.limits import Limit


def test_some_at_once_and_then_steadily_for_each() -> None:
    now = 100.0
    limit = Limit(3, 60.0, lambda: now)
    assert [limit.takes("a") for _ in range(5)] == [True, True, True, False, False]
    assert limit.takes("b")
    now += 20.0
    assert [limit.takes("a") for _ in range(2)] == [True, False]
    now += 60.0
    assert [limit.takes("a") for _ in range(4)] == [True, True, True, False]
    now += 61.0
    assert [limit.takes("a") for _ in range(4)] == [True, True, True, False]


def test_what_is_let_through_counts_when_it_is_said() -> None:
    limit = Limit(1, 60.0, lambda: 0.0)
    assert limit.has_room("a")
    assert limit.has_room("a")
    limit.count("a")
    assert not limit.has_room("a")


def test_a_flood_of_names_costs_no_more_than_a_bound() -> None:
    limit = Limit(1, 60.0, lambda: 0.0)
    for number in range(30_000):
        limit.takes(str(number))
    assert len(limit._used) <= 10_000
