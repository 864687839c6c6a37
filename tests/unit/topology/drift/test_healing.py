"""When a repair is due."""

from __future__ import annotations

from services.topology.drift.intents import WINDOW_S, Backoff


def repairs(patience: Backoff, now: float, *, count: int) -> list[float]:
    """Repairs whenever one is due; the times."""
    times = []
    for _ in range(count):
        due = patience.due(now)
        assert due is not None
        now = due
        patience.repaired(now)
        times.append(now)
    return times


def test_at_once_and_then_after_growing_pauses() -> None:
    assert repairs(Backoff(5), 100.0, count=5) == [100.0, 101.0, 103.0, 107.0, 115.0]


def test_it_gives_up_for_good() -> None:
    patience = Backoff(2)
    repairs(patience, 0.0, count=2)
    assert patience.due(1.0) is None
    assert patience.due(WINDOW_S * 10) is None
    patience.reset()
    assert patience.due(WINDOW_S * 10) == WINDOW_S * 10


def test_repairs_that_are_far_apart_do_not_add_up() -> None:
    patience = Backoff(2)
    for number in range(5):
        now = number * WINDOW_S
        assert patience.due(now) == now
        patience.repaired(now)
