"""Numbered topics: what a browser gets that was away, is slow, or comes to another stream."""

from __future__ import annotations

import asyncio

import pytest

from services.topology.feed import followers
from services.topology.feed.followers import Listener, Numbered

MISSED = b'event: missed\ndata: {"topic":"t"}\n\n'


def topic(*numbers: int) -> Numbered:
    told = Numbered("t")
    for number in numbers:
        told.tell(number, b"%d;" % number)
    return told


def listening(told: Numbered, after: int | None = None) -> Listener:
    return told.listen(asyncio.Event(), after=after)


async def test_a_listener_gets_what_comes_once_and_in_order() -> None:
    told = topic(1)
    listener = listening(told)
    told.tell(2, b"2;")
    told.tell(5, b"5;")
    told.tell(5, b"again;")
    assert listener.bell.is_set()
    assert told.take(listener) == b"2;5;"
    assert told.take(listener) == b""
    assert listener.position == 5
    told.leave(listener)
    told.tell(6, b"6;")
    assert told.take(listener) == b""


@pytest.mark.parametrize(
    ("after", "expected"),
    [(7, b"8;9;"), (8, b"9;"), (9, b""), (6, b"7;8;9;"), (5, MISSED), (12, MISSED)],
)
async def test_one_that_was_away_goes_on_or_is_told_to_ask(after: int, expected: bytes) -> None:
    told = topic(7, 8, 9)
    listener = listening(told, after)
    assert told.take(listener) == expected
    assert listener.position == 9


async def test_more_than_is_kept_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "_MOST_KEPT", 2)
    told = topic(1, 2, 3, 4)
    assert told.take(listening(told, 2)) == b"3;4;"
    assert told.take(listening(told, 1)) == MISSED
    monkeypatch.setattr(followers, "_MOST_KEPT_BYTES", 5)
    told.tell(5, b"5;")
    assert told.take(listening(told, 3)) == b"4;5;"
    told.tell(6, b"6 is long;")
    assert told.take(listening(told, 5)) == MISSED


async def test_a_slow_one_is_told_of_a_gap_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "_MOST_WAITING_BYTES", 4)
    told = topic()
    listener = listening(told)
    for number in (1, 2, 3, 4):
        told.tell(number, b"%d;" % number)
    assert told.take(listener) == MISSED + b"4;"


async def test_a_stream_that_was_made_anew_begins_again() -> None:
    told = topic(41, 42)
    listener = listening(told)
    told.begin(0)
    told.tell(1, b"1;")
    assert told.take(listener) == MISSED + b"1;"
    assert listener.position == 1
    assert told.take(listening(told, 42)) == MISSED
