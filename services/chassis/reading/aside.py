"""Reading beside the event loop.

One thread for all of it: the loop has to wait for the interpreter's lock with each reader that
wants it too, and a second reader would make none of them faster. The garbage collector, which holds
that lock until it has walked through every value, does not run meanwhile; what a budget refuses is
gone before it does again.
"""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.chassis.memory import uncollected

INLINE_CHARACTERS = 16 * 1024
"""A text of this length takes no longer than 20 ms, whatever it holds."""

T = TypeVar("T")

_reader = ThreadPoolExecutor(1, thread_name_prefix="reader")


async def read_aside(read: Callable[[], T], *, size: int) -> T:
    """What `read` returns or raises; run beside the loop if what it reads has some length."""
    if size <= INLINE_CHARACTERS:
        return read()
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_reader, lambda: context.run(_uncollected, read))


def _uncollected(read: Callable[[], T]) -> T:
    with uncollected():
        try:
            return read()
        except Exception as error:
            _forget_values(error)
            raise


def _forget_values(error: BaseException) -> None:
    """Lets go of what was read before the error, which its traceback keeps."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__context__
