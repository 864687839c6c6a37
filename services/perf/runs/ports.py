"""What the runs of a worker need from outside; `adapters` has it for the bus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.perf.measurements.measurements import Measurement
from services.perf.runs.wire import (
    ReadyAnswer,
    ReadyQuestion,
    Report,
    RollAnswer,
    RunRecord,
    ShardCommand,
    ShardResult,
    Step,
)


class Stop(Protocol):
    """Called when something is to end."""

    def __call__(self) -> None: ...


class Conducting(Protocol):
    """The conductor's end of a run's control subjects."""

    async def stop(self) -> None:
        """Tells all shards to end at once."""


class Channels(Protocol):
    """Speaks with the other workers of a run."""

    @property
    def is_connected(self) -> bool: ...

    async def roll_call(self) -> list[RollAnswer]:
        """Who could take shards now; takes a moment, because nobody knows how many answer."""

    async def publish(self, command: ShardCommand) -> None:
        """Queues a shard for whichever worker is free."""

    def conduct(
        self,
        run: str,
        *,
        on_ready: Callable[[ReadyQuestion], ReadyAnswer],
        on_report: Callable[[Report], None],
    ) -> AbstractAsyncContextManager[Conducting]:
        """Answers and hears the workers of a run."""

    async def ready(self, run: str, question: ReadyQuestion) -> ReadyAnswer | None:
        """Asks the conductor; None when it does not answer."""

    async def report(self, run: str, report: Report) -> None:
        """Tells the conductor; may get lost."""

    def stopping(self, run: str, on_stop: Stop) -> AbstractAsyncContextManager[None]:
        """Hears the conductor's word to stop."""


class Store(Protocol):
    """Keeps the state and the results of runs."""

    async def run(self, run: str) -> RunRecord | None: ...

    async def save_run(self, record: RunRecord) -> None: ...

    async def step(self, run: str, number: int) -> Step | None: ...

    async def save_step(self, run: str, step: Step) -> None: ...

    async def shard_result(self, run: str, token: str) -> ShardResult | None: ...

    async def save_shard_result(self, run: str, result: ShardResult) -> None: ...

    async def measurement(self, run: str) -> Measurement | None: ...

    async def save_measurement(self, measurement: Measurement) -> str:
        """Keeps it with its fortio form; returns the name of that object."""


Clock = Callable[[], float]
"""Unix time in seconds."""
