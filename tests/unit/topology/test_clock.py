"""The server's clock, as the messages of a stream tell it."""

from __future__ import annotations

from services.topology.adapters.replicas import ServersClock

WINDOW_S = 30.0


def _told(clock: ServersClock, *, ahead_s: float, start: int, seconds: int) -> None:
    """A message each second, read a little later each time but the third."""
    for second in range(start, start + seconds):
        late_s = (0.4, 0.2, 0.01)[second % 3]
        clock.hear(second + ahead_s - late_s, read_at=float(second))


def test_the_message_that_was_read_soonest_tells_it() -> None:
    clock = ServersClock(WINDOW_S)
    _told(clock, ahead_s=1000.0, start=0, seconds=10)
    assert abs(clock.at(10.0) - 1010.0) < 0.05


def test_a_clock_that_was_set_back_is_followed() -> None:
    clock = ServersClock(WINDOW_S)
    _told(clock, ahead_s=1000.0, start=0, seconds=100)
    _told(clock, ahead_s=900.0, start=100, seconds=100)
    assert abs(clock.at(200.0) - 1100.0) < 0.05


def test_a_clock_that_goes_slower_is_followed_for_days() -> None:
    clock = ServersClock(WINDOW_S)
    for second in range(0, 200_000, 5):
        clock.hear(second * 0.9999, read_at=float(second))
    assert abs(clock.at(200_000.0) - 199_980.0) < 0.05


def test_messages_read_late_do_not_set_it_back() -> None:
    clock = ServersClock(WINDOW_S)
    _told(clock, ahead_s=1000.0, start=0, seconds=60)
    # Silence for long, and then what was stored meanwhile, all at once, the newest last.
    for stored_at in range(1060, 1661):
        clock.hear(float(stored_at), read_at=660.5)
    assert abs(clock.at(661.0) - 1661.0) < 0.6
