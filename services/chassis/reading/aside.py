"""Reading beside the event loop.

One thread for all of it: the loop has to wait for the interpreter's lock with each reader that
wants it too, and a second reader would make none of them faster.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
    return await loop.run_in_executor(_reader, lambda: context.run(read))
