"""Reading beside the loop: nobody waits for the garbage collector meanwhile."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from services.chassis.errors import TooManyValues
from services.chassis.reading.aside import INLINE_CHARACTERS, read_aside
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml

_MANY = 100_000


class _Values(list[object]):
    """A list that can be watched from outside."""


@contextmanager
def _collections() -> Iterator[list[int]]:
    """The generations that are collected in the block."""
    found: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)


async def test_a_large_text_is_read_without_a_collection() -> None:
    text = f"a: [{'[],' * _MANY}]"
    with _collections() as collections:

        def reading() -> tuple[Any, list[int]]:
            collections.clear()  # before it began, the loop's own work may have had one
            return read_yaml(text, budget=Budget.fresh(nodes=3 * _MANY)), list(collections)

        read, while_reading = await read_aside(reading, size=len(text))
    assert len(read["a"]) == _MANY
    assert while_reading == []
    assert gc.isenabled()


async def test_what_was_refused_is_gone_before_anything_is_collected() -> None:
    watched: list[weakref.ref[_Values]] = []

    def refused() -> None:
        values = _Values()
        watched.append(weakref.ref(values))
        try:
            raise ValueError("the cause")
        except ValueError:
            raise TooManyValues("the text holds more") from None

    gc.disable()
    try:
        with pytest.raises(TooManyValues) as caught:
            await read_aside(refused, size=INLINE_CHARACTERS + 1)
        assert watched[0]() is None, f"kept by {caught.value!r}"
    finally:
        gc.enable()


async def test_the_collector_goes_on_after_readings_side_by_side() -> None:
    texts = [f"a: {'x' * INLINE_CHARACTERS}" for _ in range(8)]
    await asyncio.gather(
        *(read_aside(lambda text=text: read_yaml(text), size=len(text)) for text in texts)  # type: ignore[misc]
    )
    assert gc.isenabled()
