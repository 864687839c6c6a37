"""How a process of ours asks the kernel for memory, and gives it back."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Of glibc's mallopt(3)."""
_OWN_PAGES_FROM_BYTES = 128 * 1024
_MOST_ARENAS = 2
_WALKS_EVERY = 5_000, 5, 80
"""New objects between two walks of the collector's youngest, and how many of those until it walks
the older ones."""


def collect_seldom() -> None:
    """Has the garbage collector walk less often.

    What a service makes it keeps (a cluster's objects, definitions) or drops without a cycle, and
    Python walks after each 700 objects: a third of the time in which five thousand services become
    a graph.
    """
    gc.set_threshold(*_WALKS_EVERY)


def return_large_blocks() -> None:
    """Gives what has 128 KiB or more pages of its own, which go back when it is freed.

    glibc begins so and raises that bound with the first such block that is freed. Each connection
    with TLS has a buffer of 256 KiB, watches connect again every few minutes, and what small
    objects of long life leave between such buffers is never enough for the next one: a process
    that watches two clusters grew by two MiB a minute. Without glibc nothing happens.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _OWN_PAGES_FROM_BYTES)
        mallopt(_ARENA_MAX, _MOST_ARENAS)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has no such one."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return found


async def return_free_pages(every_s: float = 300.0) -> None:
    """Gives pages back that lie free between what stays, until it is cancelled.

    Texts of a few KiB come and go among those that are kept for hours, and glibc gives back only
    what is free at a heap's end: services grew by some MiB an hour with nothing more in them. The
    walk takes two milliseconds in a heap of 50 MiB and 30 in one of 450, in a thread and without
    Python's lock. Without glibc nothing happens.
    """
    trim = _of_glibc("malloc_trim")
    while trim is not None:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(trim, 0)


def keep_started() -> None:
    """Has the garbage collector pass over all that is here, for as long as the process lives.

    A service that has started is some 200 000 objects that stay. A full collection walks through
    all of them, holds the interpreter's lock meanwhile, and nobody is answered for 50 to 100 ms.
    """
    gc.freeze()


@contextmanager
def uncollected() -> Iterator[None]:
    """Pauses the garbage collector for a block that makes many objects and no cycles, and does not
    wait. It would walk through them again and again, and take half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
