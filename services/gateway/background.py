"""Work that outlives the call that began it, held and watched until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Background:
    """Holds tasks that no caller awaits; asyncio itself keeps only weak references."""

    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work`; a failure is logged."""
        task = self._hold(name, work)
        task.add_done_callback(_log_failure)
        return task

    async def detached(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, which goes on to its end even when the caller is cancelled."""
        task: asyncio.Task[T] = self._hold(name, work)
        # A cancelled caller never asks for the outcome; asyncio would call that an error.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def drain(self, grace: timedelta) -> None:
        """Waits for running tasks, and cancels those that are not done within `grace`."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(set(self._tasks), timeout=grace.total_seconds())
        for task in late:
            log.warning("work_abandoned", part=task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _hold(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background_work_failed", part=task.get_name(), exc_info=error)
