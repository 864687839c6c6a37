"""Waiting in tests: for a condition or an item, never for a time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_POLL_S = 0.01


async def eventually(
    holds: Callable[[], Awaitable[object]] | Callable[[], object],
    *,
    what: str,
    within_s: float = 60.0,
) -> None:
    """Asks until `holds` gives something true; fails with `what` when it never does."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        found = holds()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(_POLL_S)
