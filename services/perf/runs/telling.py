"""How a run goes, told while it runs: in its record each second, and less often as events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from services.chassis.errors import BusUnavailable
from services.perf.results.results import told_ms
from services.perf.runs.ports import Clock, Store
from services.perf.runs.seating import Seats
from services.perf.runs.summing import time_of
from services.perf.runs.wire import RunRecord, RunState

_RECENT_INTERVALS = 5

log = structlog.get_logger(__name__)


@asynccontextmanager
async def told(
    store: Store,
    record: Callable[[], RunRecord],
    *,
    every: timedelta,
    tell: Callable[[str], None],
) -> AsyncIterator[None]:
    """Keeps the record up to date for the block, and tells a line of it now and then."""

    async def go_on() -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(1.0)
            now = record()
            try:
                await store.save_run(now)
            except BusUnavailable as error:
                log.warning("status_not_stored", reason=error.summary)
            if now.state is RunState.RUNNING and loop.time() - last >= every.total_seconds():
                last = loop.time()
                tell(line(now))

    telling = asyncio.create_task(go_on(), name="run-progress")
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling


def live(record: RunRecord, seats: Seats | None, *, before: int, clock: Clock) -> RunRecord:
    """The record with what the reports of the running step say; `before` is what earlier steps
    have counted."""
    if seats is None or seats.start_at is None:
        return record.model_copy(update={"requests": before})
    recent = seats.recent(_RECENT_INTERVALS)
    elapsed_s = max(0.0, clock() - seats.start_at)
    span_s = max(seats.interval_s, min(seats.interval_s * _RECENT_INTERVALS, elapsed_s))
    is_known = bool(recent.durations.count)
    return record.model_copy(
        update={
            "state": RunState.RUNNING,
            "started": time_of(seats.start_at),
            "elapsed_s": round(elapsed_s, 1),
            "workers": seats.workers,
            "requests": before + seats.requests,
            "failed": seats.failed,
            "rate": round(recent.durations.count / span_s, 1) if is_known else None,
            "p99_ms": recent.durations.percentile_us(99) / 1000 if is_known else None,
        }
    )


def line(record: RunRecord) -> str:
    """One line for people."""
    failed = f", {record.failed} failed" if record.failed else ""
    p99 = f", p99 {told_ms(record.p99_ms)} ms" if record.p99_ms is not None else ""
    return (
        f"{record.elapsed_s:.0f} of {record.duration_s:.0f} s: "
        f"{record.requests} requests{failed}{p99}"
    )
